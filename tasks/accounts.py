"""Task functions of accounts that people open themselves."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings

from myapp import tasks as menu
from myapp.users import accounts, passwords
from tasks import app


@app.implements(menu.send_activation_email)
def send_activation_email(*, user_pk: UUID) -> dict[str, Any]:
    return {"sent": accounts.send_activation_mail(user_id=user_pk)}


@app.implements(menu.send_account_reminder)
def send_account_reminder(*, user_pk: UUID) -> dict[str, Any]:
    return {"sent": accounts.send_account_reminder(user_id=user_pk)}


@app.implements(menu.send_password_reset_email)
def send_password_reset_email(*, email: str) -> dict[str, Any]:
    return {"sent": passwords.send_reset_mail(email=email)}


@app.implements(
    menu.recover_unsent_activation_emails,
    cron="*/15 * * * *",
    schedule="recover-activation-emails",
)
def recover_unsent_activation_emails(*, timestamp: int) -> dict[str, Any]:
    # A run that comes late looks at the time it is, not at the time it was due.
    return {"deferred": accounts.defer_unsent_activation_mails(), "due_at": timestamp}


@app.implements(
    menu.delete_unactivated_accounts,
    cron="40 * * * *",
    schedule="delete-unactivated-accounts",
)
def delete_unactivated_accounts(*, timestamp: int) -> dict[str, Any]:
    age = timedelta(days=settings.JOBS_UNACTIVATED_DAYS)
    return {"deleted": accounts.delete_unactivated_accounts(older_than=age), "due_at": timestamp}
