"""Task functions of accounts that people open themselves."""

from typing import Any
from uuid import UUID

from myapp import tasks as menu
from myapp.users.accounts import defer_unsent_activation_mails, send_activation_mail
from tasks import app


@app.implements(menu.send_activation_email)
def send_activation_email(*, user_pk: UUID) -> dict[str, Any]:
    return {"sent": send_activation_mail(user_id=user_pk)}


@app.implements(
    menu.recover_unsent_activation_emails,
    cron="*/15 * * * *",
    schedule="recover-activation-emails",
)
def recover_unsent_activation_emails(*, timestamp: int) -> dict[str, Any]:
    # A run that comes late looks at the time it is, not at the time it was due.
    return {"deferred": defer_unsent_activation_mails(), "due_at": timestamp}
