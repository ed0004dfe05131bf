"""Each token gets its terms as it is made: without, it lets nobody in."""

from typing import Any

from django.db.models.signals import post_save
from knox.models import AuthToken

from pgjobs.api.tokens.models import Terms


def connect() -> None:
    """Connect the receiver; to do so again changes nothing."""
    post_save.connect(_made, sender=AuthToken, dispatch_uid="tokens")


def _made(instance: AuthToken, created: bool, raw: bool = False, **_signal: Any) -> None:
    if created and not raw:  # what is loaded from a dump brings its own
        Terms.objects.create(token=instance)
