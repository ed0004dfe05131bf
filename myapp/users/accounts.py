"""Accounts that people open themselves: sign-up, the activation mail and its link."""

import re
import secrets
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.contrib.auth.password_validation import validate_password
from django.core import signing
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.urls import reverse
from django.utils import timezone

from myapp import tasks
from myapp.users.errors import (
    ActivationLinkExpiredError,
    ActivationLinkInvalidError,
    EmailTakenError,
    UsernameTakenError,
)
from myapp.users.mails import may_be_mailed, send_mail
from myapp.users.models import User
from myapp.users.names import MAX_USERNAME_LENGTH, normal_address, normal_username
from myapp.users.selectors import users_without_activation_mail
from pgjobs import Deferred, owned_by

_SALT = "users.activation"
_REMINDERS_A_DAY = 1
_DELETED_AT_ONCE = 1000
# Random endings tried for a username that is derived. Each has 2^32 values, so that two in a row
# that are taken mean that something else is wrong.
_ENDINGS_TRIED = 3
# Who signed in was active, too: an older version beside this one activates without a note of it.
_NEVER_ACTIVE = {"is_active": False, "activated_at": None, "last_login": None}


def sign_up(*, email: str, password: str, username: str = "") -> Deferred:
    """Create an inactive user and the job of their activation mail, as `enter` does."""
    return enter(applicant(email=email, password=password), username=username)


def applicant(*, email: str, password: str) -> User:
    """Return the inactive user to be, of whom nothing is written yet.

    Hashing takes a tenth of a second on purpose: not while a transaction is open.
    """
    user = User(email=normal_address(email), is_active=False, signed_up_at=timezone.now())
    user.password = make_password(password)
    return user


def enter(user: User, *, username: str = "") -> Deferred:
    """Write the user and the job of their activation mail: both, or neither.

    Without a username a free one is derived from the address. The Task belongs to the new user.
    Nobody learns whether an address has an account already: its holder is told, by a mail whose
    job is what comes back then.

    Raises:
        UsernameTakenError: another user has it.
    """
    with transaction.atomic():
        try:
            if username:
                _insert(user, username)
            else:
                _insert_with_derived_username(user)
        except EmailTakenError:
            return _tell_holder(user.email)
        with owned_by(user.pk):
            return tasks.send_activation_email.defer(user_pk=user.pk)


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


def send_account_reminder(*, user_id: UUID) -> bool:
    """Tell the holder of an address that somebody signed up with it; return whether it was mailed.

    Once a day at most: strangers may sign up as often as they like. Whoever never activated the
    account is mailed the link again instead.

    Raises:
        OSError: see send_activation_mail.
    """
    user = User.objects.filter(pk=user_id).first()
    if user is None or not may_be_mailed(user, "account-reminder", a_day=_REMINDERS_A_DAY):
        return False
    if user.is_active:
        login = f"{settings.JOBS_PUBLIC_URL}{reverse('login')}"
        send_mail(user, "account_reminder", {"login": login})
        return True
    never_active = User.objects.filter(pk=user.pk, **_NEVER_ACTIVE).exists()
    if never_active:
        _mail(user)
    return never_active


def defer_unsent_activation_mails() -> int:
    """Defer the activation mail of every user who should have had it; return how many.

    A mail that was made up for and still waits is not deferred once more.
    """
    user_ids = users_without_activation_mail()
    return sum(_defer_mail_once(user_id).created for user_id in user_ids)


def activation_token(user: User) -> str:
    """Return what the link of this user carries: their id, signed, with the time."""
    return signing.dumps(str(user.pk), salt=_SALT)


def activation_user(*, token: str) -> User:
    """Return whose link this is; an old one still is that of a user who is active.

    Raises:
        ActivationLinkExpiredError: it is older than JOBS_ACTIVATION_LINK_HOURS.
        ActivationLinkInvalidError: it is none of ours, or the user is gone.
    """
    user = User.objects.filter(pk=_user_id(token)).first()
    if user is None:
        raise ActivationLinkInvalidError
    if not user.is_active:
        _user_id(token, max_age=timedelta(hours=settings.JOBS_ACTIVATION_LINK_HOURS))
    return user


def activate(user: User, *, password: str) -> None:
    """Let the user of a link sign in, by this password.

    It may be the one chosen at sign-up, or a new one: whoever reads the mail has the address, and
    somebody else may have signed up with it. Once they are active nothing changes.

    Raises:
        ValidationError: a new password is too weak.
        ActivationLinkInvalidError: they were shut out, or are active by now.
    """
    if not user.check_password(password):
        validate_password(password, user)
    hashed = make_password(password)
    # Who was active once and is not now was shut out, which an old link must not undo.
    never_active = User.objects.filter(pk=user.pk, **_NEVER_ACTIVE)
    with transaction.atomic():
        if not never_active.update(is_active=True, activated_at=timezone.now()):
            raise ActivationLinkInvalidError
        user.write_hash(hashed)


def delete_unactivated_accounts(*, older_than: timedelta) -> int:
    """Delete the users who opened an account so long ago and never activated it; return how many.

    The address and the name are free again then.
    """
    old = timezone.now() - older_than
    users = User.objects.filter(signed_up_at__lt=old, **_NEVER_ACTIVE)
    ids = list(users.order_by("signed_up_at").values_list("pk", flat=True)[:_DELETED_AT_ONCE])
    return sum(_delete_if_still_in(users, user_id) for user_id in ids)


def _delete_if_still_in(users: QuerySet[User], user_id: UUID) -> bool:
    """Delete the user unless they follow their link just now."""
    with transaction.atomic():
        user = users.select_for_update().filter(pk=user_id).first()
        if user is not None:
            user.delete()
    return user is not None


def renew_activation_mail(*, token: str) -> None:
    """Mail a new link to the holder of one that expired, unless they are or were active.

    Raises:
        ActivationLinkInvalidError: it is none of ours.
    """
    users = User.objects.filter(pk=_user_id(token), **_NEVER_ACTIVE)
    with transaction.atomic():
        for user in users.select_for_update():
            user.is_activation_email_sent = False
            user.save(update_fields=["is_activation_email_sent"])
            _defer_mail_once(user.pk)


def _defer_mail_once(user_id: UUID) -> Deferred:
    """Defer the activation mail unless one waits that was deferred so."""
    mail = tasks.send_activation_email.configure(unique=f"activation-mail:{user_id}")
    with owned_by(user_id):
        return mail.defer(user_pk=user_id)


def _tell_holder(email: str) -> Deferred:
    holder = User.objects.of_address(email).get()
    # Another Task each time, as of an address that is free: the same one again would tell.
    with owned_by(holder.pk):
        return tasks.send_account_reminder.defer(user_pk=holder.pk)


def _insert(user: User, username: str) -> None:
    """Write the user; a name that is taken is said before an address that is."""
    user.username = normal_username(username)
    try:
        with transaction.atomic():
            user.save(force_insert=True)
    except IntegrityError:
        if User.objects.named(user.username).exists():
            raise UsernameTakenError(username=user.username) from None
        raise EmailTakenError(email=user.email) from None


def _insert_with_derived_username(user: User) -> None:
    if User.objects.of_address(user.email).exists():  # no name would do
        raise EmailTakenError(email=user.email)
    stem = _stem(user.email)
    for _ in range(_ENDINGS_TRIED):
        try:
            return _insert(user, stem)
        except UsernameTakenError:
            stem = f"{_stem(user.email)}-{secrets.token_hex(4)}"
    return _insert(user, stem)


def _stem(email: str) -> str:
    """Return the part before the @ as a username, with room for an ending."""
    local_part = re.sub(r"[^\w.+-]", "", normal_username(email.partition("@")[0]))
    return local_part[: MAX_USERNAME_LENGTH - len("-12345678")] or "user"


def _mail(user: User) -> None:
    path = reverse("activate", args=[activation_token(user)])
    context = {
        # From a setting: a worker has no request to take the host from.
        "link": f"{settings.JOBS_PUBLIC_URL}{path}",
        "hours": settings.JOBS_ACTIVATION_LINK_HOURS,
    }
    send_mail(user, "activation", context)


def _user_id(token: str, *, max_age: timedelta | None = None) -> UUID:
    try:
        return UUID(signing.loads(token, salt=_SALT, max_age=max_age))
    except signing.SignatureExpired:
        raise ActivationLinkExpiredError from None
    except (signing.BadSignature, ValueError):
        raise ActivationLinkInvalidError from None
