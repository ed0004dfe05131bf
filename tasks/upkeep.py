"""Task functions that keep the platform's own tables in order."""

from datetime import timedelta
from typing import Any

from django.conf import settings

from myapp import tasks as menu
from myapp.jobs.idempotency.services import keys_prune
from myapp.jobs.tracking.services import tasks_prune
from tasks import app


@app.implements(menu.prune_ended_tasks, cron="20 3 * * *", schedule="prune-ended-tasks")
def prune_ended_tasks(*, timestamp: int) -> dict[str, Any]:
    pruned = tasks_prune(older_than=timedelta(days=settings.JOBS_RETENTION_DAYS))
    return {"pruned": pruned, "pruned_keys": keys_prune()}
