"""The room of logs, correlation, health."""

from django.apps import AppConfig


class ObservabilityConfig(AppConfig):
    name = "pgjobs.observe"
    label = "observability"
