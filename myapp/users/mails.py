"""How a mail to a user is made."""

from typing import Any

from django.core.mail import EmailMessage
from django.template.loader import render_to_string

from myapp.users.models import User
from pgjobs.api.throttles.services import Quota, count_request

_DAY_SECONDS = 24 * 3600


def may_be_mailed(user: User, kind: str, *, a_day: int) -> bool:
    """Count a mail of this kind that a stranger asked for; tell whether the user may have it."""
    day = Quota(kind, str(user.pk), a_day, _DAY_SECONDS)
    return all(standing.may_pass for standing in count_request(day))


def send_mail(user: User, name: str, context: dict[str, Any]) -> None:
    """Send the templates `users/<name>_subject.txt` and `_mail.txt`.

    Raises:
        OSError: the mail server refused it or cannot be reached (smtplib's errors are OSErrors).
    """
    EmailMessage(
        subject=render_to_string(f"users/{name}_subject.txt").strip(),
        body=render_to_string(f"users/{name}_mail.txt", {"username": user.username, **context}),
        to=[user.email],
    ).send()
