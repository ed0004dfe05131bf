"""The room of who did what: an append-only record of acts that matter later."""

from django.apps import AppConfig


class AuditConfig(AppConfig):
    name = "pgjobs.access.audit"
    label = "audit"

    def ready(self) -> None:
        # The receivers load models, which need the registry.
        from pgjobs.access.audit.receivers import connect  # noqa: PLC0415

        connect()
