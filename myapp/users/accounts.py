"""Accounts that people open themselves: sign-up, the activation mail and its link."""

import re
import secrets
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.core import signing
from django.core.mail import EmailMessage
from django.db import IntegrityError, transaction
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone

from myapp import tasks
from myapp.jobs.bridge import Deferred, OptionArguments, owned_by
from myapp.users.errors import (
    ActivationLinkExpiredError,
    ActivationLinkInvalidError,
    EmailTakenError,
    UsernameTakenError,
)
from myapp.users.models import User
from myapp.users.selectors import users_without_activation_mail

_SALT = "users.activation"
_MAX_USERNAME_LENGTH = 150
# Random endings tried for a username that is derived. Each has 2^32 values, so that two in a row
# that are taken mean that something else is wrong.
_ENDINGS_TRIED = 3
# Who signed in was active, too: an older version beside this one activates without a note of it.
_NEVER_ACTIVE = {"activated_at": None, "last_login": None}


def sign_up(*, email: str, password: str, username: str = "") -> Deferred:
    """Create an inactive user and the job of their activation mail, as `enter` does."""
    return enter(applicant(email=email, password=password), username=username)


def applicant(*, email: str, password: str) -> User:
    """Return the inactive user to be, of whom nothing is written yet.

    Hashing takes a tenth of a second on purpose: not while a transaction is open.
    """
    user = User(email=User.objects.normalize_email(email), is_active=False)
    user.password = make_password(password)
    return user


def enter(user: User, *, username: str = "", options: OptionArguments | None = None) -> Deferred:
    """Write the user and the job of their activation mail: both, or neither.

    Without a username a free one is derived from the address. The Task belongs to the new user.

    Raises:
        UsernameTakenError, EmailTakenError: another user has it.
    """
    mail = tasks.send_activation_email
    with transaction.atomic():
        if username:
            _insert(user, username)
        else:
            _insert_with_derived_username(user)
        with owned_by(user.pk):
            return (mail.configure(**options) if options else mail).defer(user_pk=user.pk)


def send_activation_mail(*, user_id: UUID) -> bool:
    """Mail the activation link unless that was done; return whether a mail went out.

    A user who is gone gets none. The mail goes first and the note of it second: a crash between
    the two sends it twice, the other way round it would never be sent.

    Raises:
        OSError: the mail server refused it or cannot be reached (smtplib's errors are OSErrors).
    """
    user = User.objects.filter(pk=user_id).first()
    if user is None or user.is_activation_email_sent:
        return False
    _mail(user)
    User.objects.filter(pk=user_id).update(is_activation_email_sent=True)
    return True


def defer_unsent_activation_mails() -> int:
    """Defer the activation mail of every user who should have had it; return how many."""
    user_ids = users_without_activation_mail()
    for user_id in user_ids:
        with owned_by(user_id):
            tasks.send_activation_email.defer(user_pk=user_id)
    return len(user_ids)


def activation_token(user: User) -> str:
    """Return what the link of this user carries: their id, signed, with the time."""
    return signing.dumps(str(user.pk), salt=_SALT)


def activate(*, token: str) -> None:
    """Let the user of this link sign in; once they are active, more visits change nothing.

    Raises:
        ActivationLinkExpiredError: it is older than JOBS_ACTIVATION_LINK_HOURS.
        ActivationLinkInvalidError: it is none of ours, or the user is gone.
    """
    users = User.objects.filter(pk=_user_id(token))
    user = users.first()
    if user is None:
        raise ActivationLinkInvalidError
    if not user.is_active:
        _user_id(token, max_age=timedelta(hours=settings.JOBS_ACTIVATION_LINK_HOURS))
        # Who was active once and is not now was shut out, which an old link must not undo.
        users.filter(**_NEVER_ACTIVE).update(is_active=True, activated_at=timezone.now())


def renew_activation_mail(*, token: str) -> None:
    """Mail a new link to the holder of one that expired, unless they are or were active.

    Raises:
        ActivationLinkInvalidError: it is none of ours.
    """
    users = User.objects.filter(pk=_user_id(token), is_active=False, **_NEVER_ACTIVE)
    with transaction.atomic():
        for user in users.select_for_update():
            user.is_activation_email_sent = False
            user.save(update_fields=["is_activation_email_sent"])
            with owned_by(user.pk):
                tasks.send_activation_email.defer(user_pk=user.pk)


def _insert(user: User, username: str) -> None:
    user.username = User.normalize_username(username)
    try:
        with transaction.atomic():
            user.save(force_insert=True)
    except IntegrityError:
        if User.objects.filter(email=user.email).exists():
            raise EmailTakenError(email=user.email) from None
        raise UsernameTakenError(username=user.username) from None


def _insert_with_derived_username(user: User) -> None:
    stem = _stem(user.email)
    for _ in range(_ENDINGS_TRIED):
        try:
            return _insert(user, stem)
        except UsernameTakenError:
            stem = f"{_stem(user.email)}-{secrets.token_hex(4)}"
    return _insert(user, stem)


def _stem(email: str) -> str:
    """Return the part before the @ as a username, with room for an ending."""
    local_part = re.sub(r"[^\w.+-]", "", User.normalize_username(email.partition("@")[0]))
    return local_part[: _MAX_USERNAME_LENGTH - len("-12345678")] or "user"


def _mail(user: User) -> None:
    path = reverse("activate", args=[activation_token(user)])
    context = {
        "username": user.username,
        # From a setting: a worker has no request to take the host from.
        "link": f"{settings.JOBS_PUBLIC_URL}{path}",
        "hours": settings.JOBS_ACTIVATION_LINK_HOURS,
    }
    EmailMessage(
        subject=render_to_string("users/activation_subject.txt").strip(),
        body=render_to_string("users/activation_mail.txt", context),
        to=[user.email],
    ).send()


def _user_id(token: str, *, max_age: timedelta | None = None) -> UUID:
    try:
        return UUID(signing.loads(token, salt=_SALT, max_age=max_age))
    except signing.SignatureExpired:
        raise ActivationLinkExpiredError from None
    except (signing.BadSignature, ValueError):
        raise ActivationLinkInvalidError from None
