"""The route of the API description."""

from django.urls import path

from myapp.jobs.rest.apis import SchemaApi

urlpatterns = [path("api/schema/", SchemaApi.as_view(), name="schema")]
