"""Users in the admin: fully editable."""

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.http import HttpRequest

from myapp.users.models import User


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
