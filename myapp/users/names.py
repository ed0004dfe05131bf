"""Usernames and addresses: how they are written, and which can be used.

They are normalised first and checked after that: what is checked is what is stored.
"""

from email.errors import MessageError
from email.headerregistry import Address

from django.contrib.auth.base_user import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.utils.encoding import punycode
from django.utils.translation import gettext_lazy as _

MAX_USERNAME_LENGTH = 150
MAX_ADDRESS_LENGTH = 254


def normal_username(text: str) -> str:
    """Return a username as Django's login form will look for it (NFKC); it may be longer."""
    return AbstractBaseUser.normalize_username(text)


def normal_address(text: str) -> str:
    """Return an address with its domain in small letters; it may be longer."""
    local_part, at, domain = text.rpartition("@")
    return f"{local_part}{at}{domain.lower()}"


def check_mailable(address: str) -> None:
    """Refuse an address to which no mail could be sent; a text that is no address is not looked at.

    Raises:
        ValidationError: the part before the @ is not ASCII (RFC 6531 is not everywhere), or the
            domain cannot be written in ASCII (RFC 5891).
    """
    if _is_address(address) and not _is_mailable(*address.rsplit("@", 1)):
        raise ValidationError(_("No mail can be sent to this address."), code="not_mailable")


def _is_address(text: str) -> bool:
    try:
        validate_email(text)
    except ValidationError:
        return False
    return True


def _is_mailable(local_part: str, domain: str) -> bool:
    try:
        Address(username=local_part, domain=punycode(domain))
    except (ValueError, IndexError, MessageError):
        return False
    return local_part.isascii()
