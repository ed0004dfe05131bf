"""Users in the admin: fully editable, but for what grants power, which superusers alone give."""

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group
from django.http import HttpRequest

from myapp.users.models import User
from myapp.users.selectors import in_reach

POWERS = ("is_staff", "is_superuser", "groups", "user_permissions")

admin.site.unregister(Group)


@admin.register(User)
class UserAdmin(DjangoUserAdmin):  # type: ignore[type-arg] # not generic at run time
    """Django's user pages with the e-mail asked for at once, since it is unique."""

    list_display = ("username", "email", "first_name", "last_name", "is_active", "is_staff")
    readonly_fields = ("created_at", "activated_at")
    add_fieldsets = (
        (
            None,
            {
                "classes": ("wide",),
                "fields": ("username", "email", "usable_password", "password1", "password2"),
            },
        ),
    )

    def get_fieldsets(self, request: HttpRequest, obj: User | None = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        if obj is None:
            return fieldsets
        fields = ("is_activation_email_sent", "created_at", "activated_at")
        return (*fieldsets, ("Activation", {"fields": fields}))

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> Any:
        fields = super().get_readonly_fields(request, obj)
        return fields if _is_superuser(request) else (*fields, *POWERS)

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return super().has_change_permission(request, obj) and _reaches(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return super().has_delete_permission(request, obj) and _reaches(request, obj)


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin):
    """Groups; what one may do is for superusers to say."""

    def get_readonly_fields(self, request: HttpRequest, obj: Group | None = None) -> Any:
        fields = super().get_readonly_fields(request, obj)
        return fields if _is_superuser(request) else (*fields, "permissions")


def _reaches(request: HttpRequest, user: User | None) -> bool:
    return user is None or in_reach(user, of=request.user)  # type: ignore[arg-type] # staff


def _is_superuser(request: HttpRequest) -> bool:
    return bool(request.user.is_superuser)
