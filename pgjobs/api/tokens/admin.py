"""Tokens in the admin: knox' own page, with what each is for."""

from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest
from knox.admin import AuthTokenAdmin
from knox.models import AuthToken

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
        return bool(request.user.is_superuser)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_superuser)

    def get_queryset(self, request: HttpRequest) -> Any:
        tokens = super().get_queryset(request)
        if request.user.is_superuser:
            return tokens
        # Of their equals and above nobody revokes any.
        powers = Q(user__is_staff=True) | Q(user__is_superuser=True)
        return tokens.exclude(powers & ~Q(user=request.user))

    @admin.display(ordering="terms__name")
    def name(self, token: AuthToken) -> Any:
        return _of_terms(token, "name")

    @admin.display(ordering="terms__scope")
    def scope(self, token: AuthToken) -> Any:
        return _of_terms(token, "scope")

    @admin.display(ordering="terms__last_used_at")
    def last_use(self, token: AuthToken) -> Any:
        return _of_terms(token, "last_used_at")


def _of_terms(token: AuthToken, name: str) -> Any:
    terms = getattr(token, "terms", None)
    return "terms are lost" if terms is None else getattr(terms, name)
