"""The project's routes, and a door for the tasks that take a secret."""

from typing import Any

import canary_samples
from django.urls import path
from rest_framework import serializers
from rest_framework.views import APIView

from myproj.urls import (  # noqa: F401 # of a urlconf
    handler400,
    handler403,
    handler404,
    handler500,
)
from myproj.urls import urlpatterns as routes_of_the_project
from pgjobs.api.door.door import deferring
from pgjobs.api.http.serializers import StrictCharField, StrictSerializer


class LeakInput(StrictSerializer):
    way = StrictCharField(max_length=20)
    password = StrictCharField(max_length=200)
    card: Any = serializers.JSONField()


class LeakApi(APIView):
    post = deferring(canary_samples.leak, message="Taken: {way}", body=LeakInput)


class CarelessApi(APIView):
    """Hands the body on as it is: the declaration refuses it."""

    post = deferring(canary_samples.leak, message="Taken")


urlpatterns = [
    *routes_of_the_project,
    path("api/leaks/", LeakApi.as_view()),
    path("api/careless/<str:unknown>/", CarelessApi.as_view()),
]
