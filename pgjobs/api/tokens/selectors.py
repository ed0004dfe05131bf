"""Reads of tokens."""

from typing import Any

from django.db.models import Q, QuerySet
from django.utils import timezone
from knox.models import AuthToken

from pgjobs.api.tokens.models import Terms


def terms_of(token: AuthToken) -> Terms | None:
    """Return the terms of a token; None: they are lost, or it was revoked just now."""
    return Terms.objects.filter(token=token).first()


def token_list(*, user: Any) -> QuerySet[Terms]:
    """Return the terms of the tokens that let a user in, each with its token."""
    lives = Q(token__expiry=None) | Q(token__expiry__gt=timezone.now())
    return Terms.objects.filter(lives, token__user=user).select_related("token")
