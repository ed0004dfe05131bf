"""Fixtures of the users' rooms."""

import asyncio
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
from django.core import mail
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateJob

from myapp.users.models import User
from pgjobs.defer.bridge import Deferred
from pgjobs.tracking.models import Task


@pytest.fixture
def work(transactional_db: None) -> Iterator[Callable[[Deferred], Task]]:
    """Run what is ready and what that defers, by the real worker's app; return the Task."""
    from procrastinate import PsycopgConnector
    from procrastinate.contrib.django.utils import connector_params

    from tasks import app

    async def run() -> None:
        async with app.open_async():
            await app.run_worker_async(
                wait=False, install_signal_handlers=False, listen_notify=False
            )

    def work_through(deferred: Deferred) -> Task:
        while ProcrastinateJob.objects.filter(status="todo", scheduled_at=None).exists():
            asyncio.run(run())
        task: Task = Task.objects.get(pk=deferred.task_id)
        return task

    app.perform_import_paths()  # type: ignore[no-untyped-call]
    connector = PsycopgConnector(kwargs=connector_params(), min_size=1, max_size=4)
    # Without schedules: whether one is due depends on the minute.
    schedules = mock.patch.dict(app.periodic_registry.periodic_tasks, clear=True)
    with schedules, app.replace_connector(connector):
        yield work_through


@pytest.fixture
def new_user(db: None) -> Callable[..., User]:
    """Make a user, by default one who signed up just now and waits for the mail."""

    def make(name: str = "ada", *, minutes_ago: float = 0, **fields: Any) -> User:
        user = User.objects.create_user(
            name, f"{name}@example.org", "pw-of-the-user", **{"is_active": False, **fields}
        )
        User.objects.filter(pk=user.pk).update(
            created_at=timezone.now() - timedelta(minutes=minutes_ago)
        )
        return user

    return make


@pytest.fixture
def mailed_path() -> Callable[[], str]:
    """Return the path of the link in the last mail."""

    def find() -> str:
        found = re.search(r"http://localhost:8000(/activate/\S+)", str(mail.outbox[-1].body))
        assert found, mail.outbox[-1].body
        return found[1]

    return find
