"""A worker never sees a job before the data that was written with it."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import job_samples
import pytest
from django.contrib.sessions.models import Session
from django.db import connection, transaction
from django.utils import timezone
from programs import Program, eventually

from pgjobs.tracking.models import Task

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.worker]

WRITERS = 4


@pytest.mark.parametrize("tries", [200, pytest.param(1000, marks=pytest.mark.long)])
def test_no_job_runs_before_its_data_however_often_it_is_tried(
    start_worker: Callable[..., Program], tries: int
) -> None:
    start_worker("job_samples.app")

    with ThreadPoolExecutor(WRITERS) as writers:
        list(writers.map(lambda _: _write_together(), range(tries)))

    assert _found() == {1: tries}


def test_a_job_deferred_outside_of_the_transaction_is_caught_by_the_same_look(
    start_worker: Callable[..., Program],
) -> None:
    start_worker("job_samples.app")

    _write_apart()

    assert _found() == {0: 1}


def _write_together() -> None:
    """Defer first and write second, which is the harder order, in one transaction."""
    key = uuid4().hex
    try:
        with transaction.atomic():
            job_samples.find_row.defer(row=key)
            _write(key)
    finally:
        connection.close()


def _write_apart() -> None:
    """Do what a broker would: send the job at once, commit the data afterwards."""
    key = uuid4().hex

    def defer_elsewhere() -> None:
        job_samples.find_row.defer(row=key)
        connection.close()

    with transaction.atomic():
        other = threading.Thread(target=defer_elsewhere)
        other.start()
        other.join()
        _write(key)
        # Reads committed rows only, so it sees the Task's end in the midst of this transaction.
        eventually(lambda: Task.objects.filter(end_status="DONE").exists())


def _write(key: str) -> None:
    Session.objects.create(session_key=key, session_data="", expire_date=timezone.now())


def _found() -> dict[int, int]:
    eventually(lambda: not Task.objects.filter(end_status__isnull=True).exists(), within_seconds=60)
    found: dict[int, int] = {}
    for result in Task.objects.values_list("result", flat=True):
        found[result["found"]] = found.get(result["found"], 0) + 1
    return found
