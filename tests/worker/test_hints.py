"""Hints: whoever may connect may notify; a run stops, and a worker claims, by what the rows say."""

import asyncio
import json
import logging
import random
import string
import threading
from collections.abc import Iterator
from typing import Any

import atomic_samples
import job_samples
import psycopg
import pytest
from atomic_samples import deeds, elsewhere, working
from limited_roles import stranger
from programs import eventually

from pgjobs.contract.context import TaskContext
from pgjobs.follow.listening import CHANNEL
from pgjobs.tracking.models import Attempt, Task
from pgjobs.worker.alive.reaper import Reaper
from pgjobs.worker.app import JobsApp
from pgjobs.worker.claim.hints import SHOWN, Hint, Hints

ANY = "procrastinate_any_queue_v1"
STRANGE = [
    "",
    "hello",
    "[]",
    "null",
    "1",
    '"job_inserted"',
    "{}",
    '{"type": "queue_paused"}',
    '{"type": ["job_inserted"]}',
    '{"type": "abort_job_requested"}',
    '{"type": "abort_job_requested", "job_id": "1"}',
    '{"type": "abort_job_requested", "job_id": true}',
    '{"type": "abort_job_requested", "job_id": 1.5}',
    '{"type": "abort_job_requested", "job_id": null}',
    "[" * 7000,
    '{"type": "abort_job_requested", "job_id": ' + "9" * 7000 + "}",
    "\ufffd\ud7ff\x01",
]


@pytest.mark.parametrize("payload", STRANGE, ids=range(len(STRANGE)))
def test_what_procrastinate_never_sends_is_no_hint(payload: str) -> None:
    assert Hints().read(payload) is None


def test_what_procrastinate_sends_is_one() -> None:
    assert Hints().read('{"type": "job_inserted", "job_id": 7}') == Hint()
    assert Hints().read('{"type": "abort_job_requested", "job_id": 7}') == Hint(7)


def test_strange_notifications_are_said_once_in_a_while_and_in_short(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hints = Hints()
    for _ in range(1000):
        hints.read("x" * 7000)

    (record,) = (each for each in caplog.records if each.levelno == logging.WARNING)
    assert len(record.getMessage()) < SHOWN + 200


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with each look of a worker around itself."""
    ended: list[int] = []
    look = Reaper.look

    async def counted(self: Reaper, worker_ids: set[int]) -> list[dict[str, Any]]:
        held = await look(self, worker_ids)
        ended.append(len(worker_ids))
        return held

    monkeypatch.setattr(Reaper, "look", counted)
    return ended


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kind", ["act", "act_plainly", "act_async"])
def test_a_forged_request_to_stop_touches_no_run(
    kind: str, worker_app: JobsApp, looks: list[int]
) -> None:
    asked: list[bool] = []

    def forge(context: TaskContext) -> None:
        payload = json.dumps({"type": "abort_job_requested", "job_id": context.job_id})
        before = len(looks)
        elsewhere("SELECT pg_notify(%s, %s)", ANY, payload)
        eventually(lambda: len(looks) > before + 1)  # one of them began after it
        asked.append(context.stop_asked())

    async def forge_beside(context: TaskContext) -> None:
        await asyncio.to_thread(forge, context)

    deeds["it"] = forge_beside if kind == "act_async" else forge
    job = atomic_samples.SPECS[kind].defer(deed="it")
    with working(worker_app):
        eventually(lambda: Task.objects.get(pk=job.task_id).end_status)

    assert Task.objects.get(pk=job.task_id).status == "DONE"
    assert asked == [False]


@pytest.mark.django_db(transaction=True)
@pytest.mark.worker
def test_a_worker_goes_on_whatever_it_is_notified_of(start_worker: Any) -> None:
    worker = start_worker("job_samples.app")
    chance = random.Random(11)  # noqa: S311 # no secret
    payloads = STRANGE + ["".join(chance.choices(string.printable, k=200)) for _ in range(200)]
    for payload in payloads:
        elsewhere("SELECT pg_notify(%s, %s)", ANY, payload)

    job = job_samples.describe_run.defer()
    eventually(lambda: Task.objects.get(pk=job.task_id).status == "DONE")
    assert worker.process.poll() is None


@pytest.mark.long
@pytest.mark.django_db(transaction=True)
def test_ten_thousand_notifications_of_a_stranger_end_no_worker_and_touch_no_run(
    worker_app: JobsApp, test_database_url: str
) -> None:
    go_on = threading.Event()

    def wait(_context: TaskContext) -> None:
        assert go_on.wait(atomic_samples.PATIENCE)

    async def wait_beside(context: TaskContext) -> None:
        await asyncio.to_thread(wait, context)

    deeds.update(waits=wait, waits_beside=wait_beside)
    runs = [
        *(spec.defer(deed="waits") for spec in (atomic_samples.act, atomic_samples.act_plainly)),
        atomic_samples.act_async.defer(deed="waits_beside"),
    ]
    with (
        stranger(test_database_url) as role,
        psycopg.connect(role.url, autocommit=True) as sender,
        working(worker_app) as worker,
    ):
        eventually(lambda: worker.worker and len(worker.worker.runner.held) == len(runs))
        for channel, encoding, payloads in _storm([run.job_id for run in runs]):
            sender.execute("SELECT set_config('client_encoding', %s, false)", [encoding])
            sender.cursor().executemany(
                "SELECT pg_notify(%s, %s)", [(channel, payload) for payload in payloads]
            )
        late = atomic_samples.act_plainly.defer(deed="waits")
        eventually(lambda: worker.worker and len(worker.worker.runner.held) > len(runs))
        go_on.set()
        eventually(lambda: not Task.objects.filter(end_status=None).exists())

    tasks = Task.objects.filter(pk__in=[run.task_id for run in (*runs, late)])
    assert {(task.status, task.attempts) for task in tasks} == {("DONE", 1)}
    assert not Attempt.objects.exists()


CHANNELS = (ANY, "procrastinate_queue_v1#deeds", CHANNEL, "procrastinate_any_queue", "jobs_twin")
ENCODINGS = {"UTF8": "äß€𝄞\u2028\ufeff", "LATIN1": "äßÿ\x85", "EUC_JP": "あ漢", "SQL_ASCII": "\x7f"}


def _storm(job_ids: list[int]) -> Iterator[tuple[str, str, list[str]]]:
    """Yield 10,000 payloads by channel and encoding, of every type, and of up to 7,999 bytes."""
    chance = random.Random(12)  # noqa: S311 # no secret
    for _ in range(100):
        encoding = chance.choice(list(ENCODINGS))
        letters = string.printable + ENCODINGS[encoding]
        yield chance.choice(CHANNELS), encoding, [
            _payload(chance, letters, job_ids) for _ in range(100)
        ]  # fmt: skip


def _payload(chance: random.Random, letters: str, job_ids: list[int]) -> str:
    anything: list[Any] = [
        None, True, -1, 2**80, 1e308, "", [], {}, [[]] * 9, *job_ids, *map(str, job_ids),
    ]  # fmt: skip
    kind = chance.choice(["job_inserted", "abort_job_requested", "queue_paused", "", None, 7])
    return chance.choice(
        [
            "".join(chance.choices(letters, k=chance.choice([0, 1, 50, 1_990]))),
            json.dumps(chance.choice(anything)),
            json.dumps({"type": kind, "job_id": chance.choice(anything)}),
            json.dumps({"type": kind, "job_id": chance.choice(job_ids)}),
            "[" * chance.choice([10, 7_999]),
        ]
    )
