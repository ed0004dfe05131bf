"""Listening: a worker whose listener was killed hears again; it says once that it is deaf."""

import asyncio
import logging

import atomic_samples
import psycopg
import pytest
from atomic_samples import deeds, elsewhere, working
from programs import eventually

from pgjobs.tracking.models import Task
from pgjobs.worker.app import JobsApp
from pgjobs.worker.claim import listening
from pgjobs.worker.claim.listening import Listener
from pgjobs.worker.database.connections import connected, engine_parameters

pytestmark = pytest.mark.django_db(transaction=True)

NEVER = 3600.0
LISTENERS = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
    " AND application_name = 'worker listen' AND query LIKE 'LISTEN %'"
)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "ECHO_SECONDS", 0.2)
    monkeypatch.setattr(listening, "RETEST_SECONDS", 0.05)


def test_a_killed_listener_hears_again(worker_app: JobsApp) -> None:
    deeds["it"] = lambda _context: None

    with working(worker_app, fetch_job_polling_interval=NEVER):
        for _ in range(3):
            ((pid,),) = eventually(lambda: elsewhere(LISTENERS))
            elsewhere(f"SELECT pg_terminate_backend({pid})")
            eventually(lambda: elsewhere(LISTENERS) not in ([], [(pid,)]))  # noqa: B023
            job = atomic_samples.act_plainly.defer(deed="it")
            eventually(lambda: Task.objects.get(pk=job.task_id).status == "DONE")  # noqa: B023


def test_a_session_of_its_own_hears_itself() -> None:
    async def hears() -> bool:
        async with await connected(**engine_parameters("test")) as connection:
            return await listening._hears_itself(connection)

    assert asyncio.run(hears())


def test_what_is_not_heard_is_said_once_and_tried_again(
    quick: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answers = iter([False, False, False, True])

    async def hears(_connection: psycopg.AsyncConnection[tuple[object, ...]]) -> bool:
        return next(answers)

    monkeypatch.setattr(listening, "_hears_itself", hears)

    async def listen() -> None:
        begun = asyncio.Event()
        listener = Listener(
            ["a_channel"], on_listening=begun.set, on_notification=print, poll_seconds=2.0
        )
        running = asyncio.create_task(listener.run())
        await asyncio.wait_for(begun.wait(), 20)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    with caplog.at_level(logging.INFO):
        asyncio.run(listen())

    said = [message for message in caplog.messages if "LISTEN" in message]
    assert len(said) == 2
    assert "every 2 s. Set JOBS_WORKER_DATABASE_URL" in said[0]
    assert said[1] == "LISTEN hears again"
