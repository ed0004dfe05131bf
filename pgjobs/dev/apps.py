"""The room of what runs this checkout on one machine; production starts nothing from it."""

from django.apps import AppConfig


class DevConfig(AppConfig):
    name = "pgjobs.dev"
    label = "pgjobs_dev"
