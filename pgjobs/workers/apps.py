"""The room of the workers: their registry, and what they need on Procrastinate's tables."""

from django.apps import AppConfig


class WorkersConfig(AppConfig):
    name = "pgjobs.workers"
    label = "workers"
    default_auto_field = "django.db.models.BigAutoField"
