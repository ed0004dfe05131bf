"""Forgotten passwords, and whatever else is signed in as somebody."""

from django.conf import settings
from django.contrib.auth.tokens import default_token_generator
from django.db import transaction
from django.urls import reverse
from django.utils import timezone
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode

from myapp.users.mails import may_be_mailed, send_mail
from myapp.users.models import User

MAILS_A_DAY = 5


def send_reset_mail(*, email: str) -> bool:
    """Mail the link, which works once, if an active user has the address; tell whether it went out.

    A few a day at most: strangers may ask as often as they like.

    Raises:
        OSError: the mail server refused it or cannot be reached.
    """
    user = User.objects.of_address(email).filter(is_active=True).first()
    if user is None or not may_be_mailed(user, "password-reset-mail", a_day=MAILS_A_DAY):
        return False
    key = urlsafe_base64_encode(force_bytes(str(user.pk)))
    path = reverse("password-reset-confirm", args=[key, default_token_generator.make_token(user)])
    send_mail(user, "password_reset", {"link": f"{settings.JOBS_PUBLIC_URL}{path}"})
    return True


def end_access(user: User) -> None:
    """End every session of the user, and revoke their API tokens."""
    with transaction.atomic():
        user.sessions_ended_at = timezone.now()
        user.save(update_fields=["sessions_ended_at"])
        user.revoke_tokens()
