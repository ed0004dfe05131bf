"""Options of one deferral: when, where, how urgent, and only once."""

import asyncio
import itertools
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta, timezone
from enum import IntEnum, StrEnum
from typing import Any
from uuid import UUID

import job_samples
import pytest
from django.db import connection, transaction
from procrastinate.contrib.django.models import ProcrastinateJob

from pgjobs.defer.bridge import (
    AlreadyWaitingError,
    BadDeferOptionError,
    Deferred,
    declare,
    owned_by,
)
from pgjobs.defer.options import DeferOptions
from pgjobs.tracking.models import Tag, Task

pytestmark = pytest.mark.django_db

nap = job_samples.nap


def _job(deferred: Deferred) -> ProcrastinateJob:
    job: ProcrastinateJob = ProcrastinateJob.objects.get(pk=deferred.job_id)
    return job


def test_options_replace_what_is_declared_for_this_job_only() -> None:
    deferred = nap.configure(queue="other", priority=-3, lock="l", queueing_lock="q").defer(
        seconds=1
    )

    job = _job(deferred)
    assert (job.queue_name, job.priority, job.lock, job.queueing_lock) == ("other", -3, "l", "q")
    assert Task.objects.get(pk=deferred.task_id).queue_name == "other"
    assert _job(nap.defer(seconds=1)).queue_name == "samples"


def test_schedule_at_is_kept_as_given() -> None:
    moment = datetime(2030, 1, 2, 3, 4, tzinfo=UTC)

    assert _job(nap.configure(schedule_at=moment).defer(seconds=1)).scheduled_at == moment


@pytest.mark.parametrize("delay", [timedelta(hours=2), {"hours": 1, "minutes": 60}])
def test_schedule_in_counts_by_the_clock_of_the_database(delay: Any) -> None:
    job = _job(nap.configure(schedule_in=delay).defer(seconds=1))

    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        (now,) = cursor.fetchone()
    assert timedelta(0) <= now + timedelta(hours=2) - job.scheduled_at < timedelta(seconds=30)


def test_unique_gives_the_task_that_waits_already() -> None:
    first = nap.configure(unique="only one").defer(seconds=1)
    second = nap.configure(unique="only one").defer(seconds=2)

    assert (first.created, second.created) == (True, False)
    assert (second.task_id, second.job_id) == (first.task_id, first.job_id)
    assert Task.objects.count() == ProcrastinateJob.objects.count() == 1


def test_unique_does_not_abort_the_callers_transaction() -> None:
    with transaction.atomic():
        for _ in range(2):
            nap.configure(unique="only one").defer(seconds=1)

        assert Task.objects.count() == 1  # an aborted transaction would refuse to look


def test_unique_makes_a_new_one_once_the_first_has_begun() -> None:
    first = nap.configure(unique="only one").defer(seconds=1)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET status = 'doing'")

    second = nap.configure(unique="only one").defer(seconds=1)

    assert second.created
    assert second.task_id != first.task_id


def test_a_queueing_lock_that_is_taken_is_an_error_that_names_the_task() -> None:
    first = nap.configure(queueing_lock="q").defer(seconds=1)

    with pytest.raises(AlreadyWaitingError, match="lock q is waiting") as caught:
        nap.configure(queueing_lock="q").defer(seconds=1)

    assert (caught.value.task_id, caught.value.job_id) == (first.task_id, first.job_id)
    assert Task.objects.count() == 1


def test_unique_against_a_job_without_a_task_is_an_error() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, queueing_lock)"
            " VALUES ('samples', 'nap', 'q')"
        )

    with pytest.raises(AlreadyWaitingError):
        nap.configure(unique="q").defer(seconds=1)


@pytest.mark.django_db(transaction=True)
def test_of_many_at_once_exactly_one_is_created() -> None:
    def defer(_: int) -> Deferred:
        try:
            return nap.configure(unique="sought after").defer(seconds=1)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as callers:
        deferred = list(callers.map(defer, range(40)))

    assert sum(each.created for each in deferred) == 1
    assert len({each.task_id for each in deferred}) == 1
    assert Task.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_defer_async_writes_the_same() -> None:
    async def both() -> tuple[Deferred, Deferred]:
        plain = await nap.defer_async(seconds=1)
        return plain, await nap.configure(priority=5).defer_async(seconds=2)

    plain, urgent = asyncio.run(both())

    assert (_job(plain).args, _job(urgent).priority) == ({"seconds": 1}, 5)


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({"schedule_at": datetime(2030, 1, 1)}, "schedule_at"),  # noqa: DTZ001 # what is refused
        ({"schedule_at": datetime(2030, 1, 1, tzinfo=UTC), "schedule_in": {"hours": 1}},
         "schedule_in"),
        ({"queueing_lock": "a", "unique": "b"}, "unique"),
        ({"priority": 2**31}, "priority"),
        ({"queue": ""}, "queue"),
        ({"queue": "q" * 41}, "queue"),
        ({"lock": "l" * 256}, "lock"),
        ({"unique": "u" * 256}, "unique"),
    ],
)  # fmt: skip
def test_an_option_that_cannot_be_is_named(options: dict[str, Any], option: str) -> None:
    with pytest.raises(BadDeferOptionError, match=f"Option {option} "):
        nap.configure(**options)


def test_a_declared_priority_of_zero_can_be_asked_for() -> None:
    @declare(queue="q", priority=9)
    def urgent() -> None: ...

    assert _job(urgent.configure(priority=0).defer()).priority == 0


@pytest.mark.parametrize(
    "tags",
    [
        "one text",
        [""],
        ["x" * 65],
        ["a\nb"],
        ["\x00"],
        ["\ud800"],
        [7],
        [str(n) for n in range(11)],
    ],
)
def test_tags_that_cannot_be_are_refused(tags: Any) -> None:
    with pytest.raises(BadDeferOptionError, match="tags") as refused:
        nap.configure(tags=tags)

    assert refused.value.code == "bad_defer_option"
    assert not Task.objects.exists()


def test_tags_are_a_set_and_belong_to_the_owner_of_the_task(user: Any) -> None:
    with owned_by(user.pk):
        deferred = nap.configure(tags=iter(["a", "b", "a"])).defer(seconds=0)

    rows = Tag.objects.filter(task=deferred.task_id).values_list("name", "owner")
    assert list(rows) == [("a", user.pk), ("b", user.pk)]


@pytest.mark.parametrize("tags", [None, [], ()])
def test_a_job_without_tags_leaves_no_row(tags: Any) -> None:
    nap.configure(tags=tags).defer(seconds=0)
    nap.configure(tags=tags).defer_many([{"seconds": 0}] * 2)

    assert not Tag.objects.exists()


def test_tags_go_when_the_caller_rolls_back() -> None:
    with transaction.atomic():
        nap.configure(tags=["a"]).defer(seconds=0)
        transaction.set_rollback(True)

    assert not Tag.objects.exists()


NOW = datetime.now(UTC)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("schedule_in", 5, "an int.*timedelta"),
        ("schedule_in", "PT5M", "a str.*timedelta"),
        ("schedule_in", [("minutes", 5)], "a list.*timedelta"),
        ("schedule_in", {"fortnights": 1}, "fortnights.*weeks, days, hours, minutes"),
        ("schedule_in", {5: 1}, "5.*weeks, days, hours, minutes"),
        ("schedule_in", {"minutes": "5"}, "minutes.*number"),
        ("schedule_in", {"minutes": None}, "minutes.*number"),
        ("schedule_in", {"minutes": True}, "minutes.*number"),
        ("schedule_in", {"minutes": float("nan")}, "minutes.*number"),
        ("schedule_in", {"minutes": float("inf")}, "minutes.*number"),
        ("schedule_in", {"minutes": 1e300}, "1970 to 8999"),
        ("schedule_in", {"weeks": 10**400}, "1970 to 8999"),
        ("schedule_in", timedelta.max, "1970 to 8999"),
        ("schedule_in", timedelta.min, "1970 to 8999"),
        ("schedule_in", datetime(9000, 1, 1, tzinfo=UTC) - NOW, "1970 to 8999"),
        ("schedule_at", date(2030, 1, 1), "a date.*datetime"),
        ("schedule_at", "2030-01-01T00:00:00Z", "a str.*datetime"),
        ("schedule_at", 1893456000, "an int.*datetime"),
        ("schedule_at", 0, "an int.*datetime"),
        ("schedule_at", datetime.min.replace(tzinfo=UTC), "1970 to 8999"),
        ("schedule_at", datetime.max.replace(tzinfo=UTC), "1970 to 8999"),
        ("schedule_at", datetime.min.replace(tzinfo=timezone(timedelta(hours=14))), "1970 to 8999"),
        ("queue", "", "1 to 40 bytes"),
        ("queue", 5, "an int.*text"),
        ("queue", b"samples", "a bytes.*text"),
        ("queue", "a\x00b", "NUL"),
        ("queue", "\ud800", "surrogate"),
        ("priority", True, "a bool.*whole number"),
        ("priority", 5.0, "a float.*whole number"),
        ("priority", "5", "a str.*whole number"),
        ("priority", -(2**31) - 1, "32 bits"),
        *(
            (option, value, said)
            for option in ("lock", "queueing_lock", "unique")
            for value, said in [
                ("", "empty"),
                (5, "an int.*text"),
                (b"l", "a bytes.*text"),
                (UUID(int=0), "a UUID.*text"),
                ("a\x00b", "NUL"),
                ("\udfff", "surrogate"),
            ]
        ),
        ("tags", 5, "an int.*texts"),
        ("tags", "one", "one text"),
        ("tags", b"one", "printable"),
        ("tags", [["unhashable"]], "printable"),
        ("tags", itertools.count(), "printable"),
        ("tags", (f"tag {n}" for n in itertools.count()), "more than 10"),
        ("colour", "blue", "lock, queue, priority, schedule_at, schedule_in"),
    ],
)
def test_configure_refuses_what_does_not_fit(option: str, value: Any, said: str) -> None:
    with pytest.raises(BadDeferOptionError, match=said) as refused:
        nap.configure(**{option: value})

    assert refused.value.option == option
    with pytest.raises(BadDeferOptionError, match=said):
        DeferOptions(**{option: value})


@pytest.mark.parametrize("delay", [timedelta(hours=-1), {"minutes": -60}])
def test_a_delay_into_the_past_is_due_at_once(delay: Any) -> None:
    job = _job(nap.configure(schedule_in=delay).defer(seconds=1))

    assert job.scheduled_at < datetime.now(UTC) - timedelta(minutes=59)


def test_parts_of_a_delay_are_read_once() -> None:
    parts = {"hours": 1}
    configured = nap.configure(schedule_in=parts)
    parts["fortnights"] = 1

    for deferred in [configured.defer(seconds=1), *configured.defer_many([{"seconds": 1}] * 2)]:
        due_in = _job(deferred).scheduled_at - Task.objects.get(pk=deferred.task_id).created_at
        assert abs(due_in - timedelta(hours=1)) < timedelta(seconds=1)


def test_the_latest_and_the_earliest_due_time_are_read_back() -> None:
    for moment in (datetime(1970, 1, 1, tzinfo=UTC), datetime(8999, 12, 31, tzinfo=UTC)):
        configured = nap.configure(schedule_at=moment)
        for deferred in [configured.defer(seconds=1), *configured.defer_many([{"seconds": 1}] * 2)]:
            assert _job(deferred).scheduled_at == moment


def test_texts_that_are_more_than_a_str_are_stored_as_their_text() -> None:
    class Queue(StrEnum):
        OTHER = "other"

    class Priority(IntEnum):
        HIGH = 9

    job = _job(
        nap.configure(queue=Queue.OTHER, lock=Queue.OTHER, priority=Priority.HIGH).defer(seconds=1)
    )

    assert (job.queue_name, job.lock, job.priority) == ("other", "other", 9)
