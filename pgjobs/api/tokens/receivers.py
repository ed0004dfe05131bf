"""What is done as a token is made or revoked: it gets its terms, and stands in the record."""

from typing import Any

from django.db.models.signals import post_delete, post_save
from knox.models import get_token_model

from pgjobs.access.audit.models import Action
from pgjobs.access.audit.services import record
from pgjobs.api.tokens.models import Terms


def connect() -> None:
    """Connect the receivers; to do so again changes nothing."""
    token_model = get_token_model()
    post_save.connect(_made, sender=token_model, dispatch_uid="tokens")
    post_delete.connect(_revoked, sender=token_model, dispatch_uid="tokens")


def _made(instance: Any, created: bool, using: str, raw: bool = False, **_signal: Any) -> None:
    if not created:
        return
    if not raw:  # what is loaded from a dump brings its own terms: without, it lets nobody in
        Terms.objects.using(using).create(token=instance)
    record(Action.TOKEN_MADE, instance.token_key, using=using, user=str(instance.user_id))


def _revoked(instance: Any, using: str, **_signal: Any) -> None:
    record(Action.TOKEN_REVOKED, instance.token_key, using=using, user=str(instance.user_id))
