"""Terms: what a token may do, and when it was used."""

from typing import Any

from django.db import models

from pgjobs.defer.ids import uuid7


class Scope(models.TextChoices):
    """What a request that comes by a token may do."""

    FULL = "full", "All that its user may"
    READ = "read", "Reads alone: GET and HEAD"


class Terms(models.Model):
    """What is known of an API token beside what knox keeps: its hash, its user and its expiry.

    A receiver makes one with each token, whatever makes that. `id` is what the API calls the token
    by: knox' own key is the hash.
    """

    # Where tokens are, which is where users are, and not the jobs: see JobsRouter.
    beside = "knox.AuthToken"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    # The constraint is the migration's: terms go with their token, whatever deletes that.
    token: Any = models.OneToOneField(
        "knox.AuthToken",
        on_delete=models.CASCADE,
        db_constraint=False,
        related_name="terms",
        swappable=False,
    )
    name = models.CharField(max_length=80, help_text="What it is for, in its user's words.")
    scope = models.CharField(max_length=16, choices=Scope.choices, default=Scope.FULL)
    last_used_at = models.DateTimeField(null=True, help_text="To the minute.")

    class Meta:
        verbose_name_plural = "terms"

    def __str__(self) -> str:
        return self.name or str(self.id)
