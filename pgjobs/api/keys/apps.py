"""The room of keys: one request of a client has one effect, however often it is sent."""

from django.apps import AppConfig


class IdempotencyConfig(AppConfig):
    name = "pgjobs.api.keys"
    label = "idempotency"
    default_auto_field = "django.db.models.BigAutoField"
