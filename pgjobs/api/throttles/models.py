"""Window: the requests of one caller to one scope, counted for a fixed time."""

from typing import ClassVar

from django.db import models


class Window(models.Model):
    """One row for each scope and caller, written by `sql/count_request.sql` alone.

    The window starts with its first request; the first request after its end starts the next one
    in the same row. The table is UNLOGGED: a crash of the server forgets the counts, no more.
    """

    scope = models.CharField(max_length=64)
    # An address, the id of a user, or the beginning of a token's digest, as the scope says.
    caller = models.CharField(max_length=64)
    requests = models.PositiveIntegerField()
    ends_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["scope", "caller"], name="pgjobs_api_window_scope_caller"
            ),
        ]
        # Finds the windows to forget.
        indexes: ClassVar = [models.Index(fields=["ends_at"], name="pgjobs_api_window_ends_at")]

    def __str__(self) -> str:
        return f"{self.requests} requests to {self.scope} until {self.ends_at:%H:%M:%S}"
