"""The room of API tokens: obtained, listed and revoked by whoever they stand for."""

from django.apps import AppConfig


class TokensConfig(AppConfig):
    name = "myapp.jobs.tokens"
    label = "tokens"

    def ready(self) -> None:
        # The receiver loads models, which need the registry.
        from myapp.jobs.tokens.receivers import connect  # noqa: PLC0415

        connect()
