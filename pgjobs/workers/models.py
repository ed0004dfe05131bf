"""WorkerProcess: a worker of ours that runs, beside Procrastinate's own row of it."""

from django.db import models

from pgjobs.contract.lengths import MAX_WORKER_NAME_LENGTH


class WorkerProcess(models.Model):
    """Written by the worker's heartbeat when it registers; gone when it ends or is found dead.

    Procrastinate's row has the heartbeat. Rows there without one here are plain Procrastinate
    workers, which nobody of ours declares dead.
    """

    # Procrastinate's worker id; no constraint, since both rows come and go together.
    id = models.BigIntegerField(primary_key=True)
    name = models.CharField(max_length=MAX_WORKER_NAME_LENGTH)
    # True: it holds the advisory lock of its id while its connection lives, so that the lock found
    # free tells of its death. False: its connection is not a session of its own.
    has_session = models.BooleanField()
    started_at = models.DateTimeField()
    # At the end of the name (`application_name`) of each session of its task functions.
    token = models.CharField(max_length=32, default="", db_default="")

    def __str__(self) -> str:
        return f"{self.name} ({self.pk})"
