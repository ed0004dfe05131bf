"""Entry: one act of somebody, kept as it was."""

from typing import ClassVar

from django.conf import settings
from django.db import models

from pgjobs.contract.lengths import MAX_CORRELATION_ID_LENGTH

# Of an actor and a target: as long as a name of Django's users.
MAX_NAME_LENGTH = 150


class Action(models.TextChoices):
    """What is recorded."""

    CANCELLED = "task_cancelled", "Task cancelled"
    RETRIED = "task_retried", "Task retried"
    SIGNED_IN = "signed_in", "Signed in"
    SIGN_IN_FAILED = "sign_in_failed", "Failed to sign in"
    TOKEN_MADE = "token_made", "API token made"  # nosec B105 # no token
    TOKEN_REVOKED = "token_revoked", "API token revoked"  # nosec B105 # likewise
    POWER_CHANGED = "power_changed", "Power granted or taken"
    PASSWORD_CHANGED = "password_changed", "Password changed"  # nosec B105 # likewise
    ACTIVITY_CHANGED = "activity_changed", "User activated or shut out"
    USER_DELETED = "user_deleted", "User deleted"


class Entry(models.Model):
    """Inserted in the transaction of the act, deleted by its age, never changed: by a trigger.

    Actor and target outlive their rows: their names stand here, too.
    """

    at = models.DateTimeField(auto_now_add=True)
    action = models.CharField(max_length=32, choices=Action.choices)
    # Who did it; null: nobody who is known, as whoever fails to sign in. No constraint: users go.
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        null=True,
        related_name="+",
    )
    actor_name = models.CharField(max_length=MAX_NAME_LENGTH)
    address = models.CharField(max_length=64, help_text="Where the request came from.")
    target = models.CharField(
        max_length=MAX_NAME_LENGTH, help_text="The task, user, group or token."
    )
    details = models.JSONField(default=dict)
    correlation_id = models.CharField(max_length=MAX_CORRELATION_ID_LENGTH)

    class Meta:
        verbose_name_plural = "entries"
        ordering: ClassVar = ["-id"]
        indexes: ClassVar = [
            models.Index(fields=["at"], name="pgjobs_entry_at"),
            models.Index(fields=["target", "id"], name="pgjobs_entry_target"),
        ]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.actor_name or '?'}: {self.action} {self.target}"
