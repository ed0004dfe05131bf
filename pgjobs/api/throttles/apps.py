"""The room of how often one caller may ask."""

from django.apps import AppConfig


class ThrottlesConfig(AppConfig):
    name = "pgjobs.api.throttles"
    label = "throttles"
    default_auto_field = "django.db.models.BigAutoField"
