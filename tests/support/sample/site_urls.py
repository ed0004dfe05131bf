"""The project's routes, and the shop's."""

from django.urls import include, path

from myproj.urls import (  # noqa: F401 # of a urlconf
    handler400,
    handler403,
    handler404,
    handler500,
)
from myproj.urls import urlpatterns as routes_of_the_project

urlpatterns = [*routes_of_the_project, path("", include("sample.urls"))]
