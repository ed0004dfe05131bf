"""The room of API tokens: obtained, listed and revoked by whoever they stand for."""

from django.apps import AppConfig


class TokensConfig(AppConfig):
    name = "pgjobs.api.tokens"
    label = "tokens"

    def ready(self) -> None:
        # The receiver loads models, which need the registry.
        from pgjobs.api.tokens.receivers import connect  # noqa: PLC0415

        connect()
