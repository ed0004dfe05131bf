"""`manage.py api_token USERNAME`: a new API token, alone on stdout."""

from argparse import ArgumentParser
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError
from knox.models import get_token_model


class Command(BaseCommand):
    """Prints a new token of a user; it is stored hashed, so it cannot be shown again."""

    help = "Print a new API token of USERNAME. It is shown this once only and expires."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("username")

    def handle(self, *args: Any, username: str, **options: Any) -> None:
        user_model = get_user_model()
        try:
            user = user_model._default_manager.get(**{user_model.USERNAME_FIELD: username})  # noqa: SLF001
        except user_model.DoesNotExist:
            raise CommandError(f"There is no user {username!r}.") from None
        if not user.is_active:
            raise CommandError(f"User {username!r} is not active; a token would not let them in.")
        _, token = get_token_model().objects.create(user)
        self.stdout.write(token)
