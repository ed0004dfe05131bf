"""Forms of the pages."""

from typing import Any

from django import forms
from django.contrib.auth.password_validation import validate_password
from django.contrib.auth.validators import UnicodeUsernameValidator
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from myapp.users.models import User
from myapp.users.names import (
    MAX_ADDRESS_LENGTH,
    MAX_USERNAME_LENGTH,
    check_mailable,
    normal_address,
    normal_username,
)
from pgjobs.access.hashing import MAX_PASSWORD_LENGTH


class AddressField(forms.EmailField):
    """An address, normalised before it is checked."""

    def to_python(self, value: Any) -> str:
        return normal_address(super().to_python(value) or "")


class UsernameField(forms.CharField):
    """A username, normalised before it is checked."""

    def to_python(self, value: Any) -> str:
        return normal_username(super().to_python(value) or "")


class SignupForm(forms.Form):
    """What a person gives to sign up."""

    email = AddressField(
        label=_("E-mail address"),
        max_length=MAX_ADDRESS_LENGTH,
        validators=[check_mailable],
        widget=forms.EmailInput(attrs={"autocomplete": "email", "autofocus": True}),
    )
    password = forms.CharField(
        label=_("Password"),
        strip=False,
        max_length=MAX_PASSWORD_LENGTH,
        help_text=_("At least 8 characters, not only digits, not a common one."),
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )
    username = UsernameField(
        label=_("Username (optional)"),
        max_length=MAX_USERNAME_LENGTH,
        required=False,
        validators=[UnicodeUsernameValidator()],
        help_text=_("Made from your e-mail address when left empty."),
        widget=forms.TextInput(attrs={"autocomplete": "username", "autocapitalize": "none"}),
    )

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean() or self.cleaned_data
        if password := cleaned.get("password"):
            user = User(username=cleaned.get("username", ""), email=cleaned.get("email", ""))
            try:
                validate_password(password, user)
            except ValidationError as error:
                self.add_error("password", error)
        return cleaned


class ActivationForm(forms.Form):
    """What a person gives to activate an account."""

    password = forms.CharField(
        label=_("Password"),
        strip=False,
        max_length=MAX_PASSWORD_LENGTH,
        help_text=_("The one you chose when you signed up, or a new one."),
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password", "autofocus": True}),
    )


class PasswordResetForm(forms.Form):
    """The address of whoever has forgotten the password."""

    email = AddressField(
        label=_("E-mail address"),
        max_length=MAX_ADDRESS_LENGTH,
        widget=forms.EmailInput(attrs={"autocomplete": "email", "autofocus": True}),
    )
