"""Writes of tokens."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.db import Error, connections, router, transaction
from django.db.models import Q
from django.utils import timezone
from knox.models import AuthToken

from pgjobs.api.errors import (
    TokenNotFoundError,
    TooManyTokensError,
    WrongCredentialsError,
)
from pgjobs.api.tokens.models import Scope, Terms
from pgjobs.api.tokens.selectors import token_list
from pgjobs.conf import conf
from pgjobs.database.read_only import is_read_only_error

# A token's last use is written this seldom: else each read would be a write.
USE_NOTED_EVERY = timedelta(minutes=1)


def token_create(*, user: Any, name: str = "", scope: str = Scope.FULL) -> tuple[Terms, str]:
    """Make a token; return its terms, and the text that is shown this once.

    Raises:
        WrongCredentialsError: the user is not any more who was let in: a new password, or none.
        TooManyTokensError: the user has JOBS_TOKENS_PER_USER that have not expired.
    """
    with _atomic():
        # Held, for two at a time would both find room for one; and a new password revokes the
        # tokens that there are.
        held = _held(user.pk)
        if held is None or not held.is_active or held.password != user.password:
            raise WrongCredentialsError
        limit = conf.JOBS_TOKENS_PER_USER
        if limit and token_list(user=user).count() >= limit:
            raise TooManyTokensError(limit=limit)
        token, key = AuthToken.objects.create(user)
        terms = token.terms
        terms.name, terms.scope = name, scope
        terms.save(update_fields=["name", "scope"])
        return terms, key


def token_revoke(*, user: Any, token_id: UUID) -> None:
    """Delete a token of the user's: what comes by it from now on is refused.

    Raises:
        TokenNotFoundError: the user has none of this id.
    """
    terms = Terms.objects.filter(pk=token_id, token__user=user).select_related("token").first()
    if terms is None:
        raise TokenNotFoundError
    with _atomic():  # it is recorded as well
        terms.token.delete()


def note_use(terms: Terms) -> None:
    """Note that the token was used, unless that was noted a moment ago; a standby notes nothing."""
    now = timezone.now()
    if terms.last_used_at is not None and now - terms.last_used_at < USE_NOTED_EVERY:
        return
    long_ago = Q(last_used_at=None) | Q(last_used_at__lte=now - USE_NOTED_EVERY)
    try:
        Terms.objects.filter(long_ago, pk=terms.pk).update(last_used_at=now)
    except Error as error:
        if not is_read_only_error(error):
            raise


def _atomic() -> Any:
    return transaction.atomic(using=router.db_for_write(AuthToken))


def _held(key: Any) -> Any:
    """Return a user whose row is locked, where their database can do that; None: there is none."""
    users = get_user_model()._base_manager  # noqa: SLF001 # a manager of the project may hide some
    alias = router.db_for_write(get_user_model())
    no_key = connections[alias].features.has_select_for_no_key_update
    return users.using(alias).select_for_update(no_key=no_key).filter(pk=key).first()
