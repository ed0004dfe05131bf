"""Key: a request that had its effect, as its client named it."""

from typing import ClassVar

from django.db import models


class Key(models.Model):
    """One row for each caller and key, written in the transaction of the effect it stands for.

    So a row that can be seen has had its effect, and one whose transaction was rolled back never
    was. Written by `sql/` alone.
    """

    caller = models.CharField(max_length=128, help_text="`user:` and an id, or `address:` and one.")
    key = models.CharField(max_length=255)
    fingerprint = models.BinaryField(help_text="Of the request; its body is not kept.")
    task_ids = models.JSONField(help_text="What was answered, in order.")
    expires_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["caller", "key"], name="pgjobs_api_key_caller_key"),
        ]
        # Finds the keys to forget.
        indexes: ClassVar = [models.Index(fields=["expires_at"], name="pgjobs_api_key_expires_at")]

    def __str__(self) -> str:
        return f"{self.key} of {self.caller}"
