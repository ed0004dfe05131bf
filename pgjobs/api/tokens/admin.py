"""Tokens in the admin: knox' own page, with what each is for."""

from functools import reduce
from operator import or_
from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.db.models import Q
from django.http import HttpRequest
from knox.admin import AuthTokenAdmin
from knox.models import AuthToken

from pgjobs.tracking.powers import is_superuser

admin.site.unregister(AuthToken)


@admin.register(AuthToken)
class TokenAdmin(AuthTokenAdmin):  # type: ignore[misc] # knox ships no types
    """Who comes in by which token; one that is made here is shown once.

    A token is all that its user may: superusers alone make one for another, or give one away.
    """

    list_display: ClassVar = ["token_key", "user", "name", "scope", "created", "expiry", "last_use"]
    list_select_related: ClassVar = ["user", "terms"]
    search_fields: ClassVar = ["token_key", *AuthTokenAdmin.search_fields[2:]]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return is_superuser(request.user)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return is_superuser(request.user)

    def get_queryset(self, request: HttpRequest) -> Any:
        tokens = super().get_queryset(request)
        if is_superuser(request.user):
            return tokens
        # Of their equals and above nobody revokes any.
        mine, powers = Q(user=request.user), _have_power()
        return tokens.filter(mine) if powers is None else tokens.exclude(powers & ~mine)

    @admin.display(ordering="terms__name")
    def name(self, token: AuthToken) -> Any:
        return _of_terms(token, "name")

    @admin.display(ordering="terms__scope")
    def scope(self, token: AuthToken) -> Any:
        return _of_terms(token, "scope")

    @admin.display(ordering="terms__last_used_at")
    def last_use(self, token: AuthToken) -> Any:
        return _of_terms(token, "last_used_at")


def _have_power() -> Q | None:
    """Return what finds staff and superusers; None where their tables do not tell who they are."""
    users = get_user_model()
    columns = {field.name for field in users._meta.get_fields()}  # noqa: SLF001 # documented
    powers = [name for name in ("is_staff", "is_superuser") if hasattr(users, name)]
    if not columns.issuperset(powers):
        return None
    return reduce(or_, (Q((f"user__{name}", True)) for name in powers), Q())


def _of_terms(token: AuthToken, name: str) -> Any:
    terms = getattr(token, "terms", None)
    return "terms are lost" if terms is None else getattr(terms, name)
