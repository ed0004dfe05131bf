"""Routes of the pages."""

from django.urls import path

from myapp.pages import views
from myapp.pages.docs import api_docs

app_name = "dashboard"
urlpatterns = [
    path("", views.home, name="home"),
    path("favicon.ico", views.favicon),
    path("api/docs/", api_docs, name="api-docs"),
]
