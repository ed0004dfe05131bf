"""Deferring many: one statement, in order, all or none."""

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import job_samples
import pytest
from django.db import DatabaseError, DataError, connection, transaction
from procrastinate.contrib.django.models import ProcrastinateEvent, ProcrastinateJob

from pgjobs.contract.arguments import ArgumentsRefusedError
from pgjobs.contract.json_values import JSONTooLargeError
from pgjobs.defer import deferral
from pgjobs.defer.bridge import (
    AlreadyWaitingError,
    BadDeferOptionError,
    Deferred,
    ItemsRefusedError,
    declare,
    owned_by,
)
from pgjobs.observe.correlation import correlated
from pgjobs.testing import assert_deferred, deferred, run_jobs
from pgjobs.tracking.models import Task

pytestmark = pytest.mark.django_db

type CountsQueries = Callable[[int], AbstractContextManager[Any]]

GUESTS: list[dict[str, Any]] = [{"guest_id": n, "name": f"guest {n}"} for n in range(5)]


@declare(
    queue="guests", operation="CREATE", subject="guest", lock="guest:{guest_id}", priority=3,
    sensitive=("phone",),
)  # fmt: skip
def invite(guest_id: int, name: str, phone: str = "", note: Any = None) -> None: ...


def _jobs(handles: list[Deferred]) -> list[ProcrastinateJob]:
    by_id = ProcrastinateJob.objects.in_bulk([handle.job_id for handle in handles])
    return [by_id[handle.job_id] for handle in handles]


def _tasks(handles: list[Deferred]) -> list[Task]:
    by_id = Task.objects.in_bulk([handle.task_id for handle in handles])
    return [by_id[handle.task_id] for handle in handles]


def _nothing_is_written() -> bool:
    return not Task.objects.exists() and not ProcrastinateJob.objects.exists()


def test_many_are_written_in_one_statement(django_assert_num_queries: CountsQueries) -> None:
    with django_assert_num_queries(1):
        handles = invite.defer_many(GUESTS)

    assert Task.objects.count() == ProcrastinateJob.objects.count() == len(handles) == len(GUESTS)
    assert all(handle.created for handle in handles)


def test_no_items_need_no_statement(django_assert_num_queries: CountsQueries) -> None:
    with django_assert_num_queries(0):
        assert invite.defer_many([]) == []
        assert invite.configure(unique="u").defer_many(iter(())) == []


def test_handles_stand_in_the_order_of_the_items() -> None:
    handles = invite.defer_many(item for item in reversed(GUESTS))  # anything that can be iterated

    assert [job.args for job in _jobs(handles)] == GUESTS[::-1]
    assert [task.input_data for task in _tasks(handles)] == GUESTS[::-1]
    assert [task.job_id for task in _tasks(handles)] == [handle.job_id for handle in handles]


def test_ids_ascend_with_the_items() -> None:
    handles = invite.defer_many(GUESTS * 20)

    # Jobs with one lock run in the order of their ids; lists of Tasks go by theirs.
    assert handles == sorted(handles, key=lambda handle: handle.job_id)
    assert handles == sorted(handles, key=lambda handle: handle.task_id)
    assert {handle.task_id.version for handle in handles} == {7}
    assert len({handle.task_id for handle in handles}) == len(handles)


def test_rows_are_those_that_defer_writes() -> None:
    item: dict[str, Any] = {"guest_id": 7, "name": "ada", "phone": "555", "note": [1.5, None]}
    ids = {"id", "job", "job_id", "created_at", "updated_at"}

    def written(handle: Deferred) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
        task = Task.objects.filter(pk=handle.task_id).values().get()
        job = ProcrastinateJob.objects.filter(pk=handle.job_id).values().get()
        events = ProcrastinateEvent.objects.filter(job_id=handle.job_id).values_list("type")
        return (
            {name: value for name, value in task.items() if name not in ids},
            {name: value for name, value in job.items() if name not in ids},
            [kind for (kind,) in events],
        )

    alone = written(invite.defer(**item))
    many = invite.defer_many([item, item])

    assert [written(handle) for handle in many] == [alone, alone]
    assert alone[2] == ["deferred"]


@pytest.mark.parametrize(
    "name",
    ['say "hi"', "back\\slash \\u0041", "{braces} %s %(name)s", "'quotes'; --", "😀 ü\u2028"],
)
def test_text_comes_back_as_it_was(name: str) -> None:
    @declare(queue="q", subject="thing", lock="{thing_id}")
    def about(thing_id: str, name: str) -> None: ...

    handles = about.defer_many([{"thing_id": name, "name": name}] * 2)

    for task, job in zip(_tasks(handles), _jobs(handles), strict=True):
        assert job.args == task.input_data == {"thing_id": name, "name": name}
        assert (job.lock, task.related_id) == (name, name)


def test_declared_types_are_encoded() -> None:
    @declare(queue="q")
    def note(thing: UUID, at: datetime) -> None: ...

    moment = datetime(2030, 1, 2, tzinfo=UTC)
    handles = note.defer_many([{"thing": UUID(int=n), "at": moment} for n in range(2)])

    stored = [note.arguments.load(job.args) for job in _jobs(handles)]
    assert stored == [{"thing": UUID(int=n), "at": moment} for n in range(2)]


def test_lock_and_related_id_are_filled_for_each_item() -> None:
    handles = invite.defer_many(GUESTS)

    assert [job.lock for job in _jobs(handles)] == [f"guest:{n}" for n in range(5)]
    assert [task.related_id for task in _tasks(handles)] == [str(n) for n in range(5)]


def test_where_nothing_is_declared_there_is_no_lock_and_no_related_id() -> None:
    handles = job_samples.nap.defer_many([{"seconds": 0}, {"seconds": 1}])

    assert {job.lock for job in _jobs(handles)} == {None}
    assert {task.related_id for task in _tasks(handles)} == {None}


def test_sensitive_arguments_are_redacted_on_each_task_and_whole_in_each_job() -> None:
    handles = invite.defer_many([{**guest, "phone": f"555-{n}"} for n, guest in enumerate(GUESTS)])

    assert {task.input_data["phone"] for task in _tasks(handles)} == {"***"}
    assert [job.args["phone"] for job in _jobs(handles)] == [f"555-{n}" for n in range(5)]


def test_all_carry_owner_and_correlation_of_their_surroundings(user: Any) -> None:
    with owned_by(user.pk), correlated("of-the-request"):
        handles = invite.defer_many(GUESTS)

    found = {(task.owner_id, task.correlation_id) for task in _tasks(handles)}
    assert found == {(user.pk, "of-the-request")}


def test_options_hold_for_all() -> None:
    handles = invite.configure(queue="other", priority=-3, lock="l").defer_many(GUESTS)

    found = {(job.queue_name, job.priority, job.lock) for job in _jobs(handles)}
    assert found == {("other", -3, "l")}
    assert {task.queue_name for task in _tasks(handles)} == {"other"}


def test_schedule_at_is_kept_as_given() -> None:
    moment = datetime(2030, 1, 2, 3, 4, tzinfo=UTC)

    handles = invite.configure(schedule_at=moment).defer_many(GUESTS)

    assert {job.scheduled_at for job in _jobs(handles)} == {moment}


def test_schedule_in_counts_by_the_clock_of_the_database_from_one_moment() -> None:
    handles = invite.configure(schedule_in={"hours": 2}).defer_many(GUESTS)

    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        (now,) = cursor.fetchone()
    (due,) = {job.scheduled_at for job in _jobs(handles)}
    assert timedelta(0) <= now + timedelta(hours=2) - due < timedelta(seconds=30)


def test_the_clock_is_read_once_and_when_they_are_accepted() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT now()")
        (begun,) = cursor.fetchone()

    (moment,) = {
        moment
        for task in _tasks(invite.defer_many(GUESTS))
        for moment in (task.created_at, task.updated_at)
    }

    assert moment > begun


def test_each_refused_item_is_named_and_nothing_is_written(
    django_assert_num_queries: CountsQueries,
) -> None:
    bad = [*GUESTS[:2], {"guest_id": "x", "name": "ada"}, GUESTS[3], {"nick": "n", **GUESTS[4]}]

    with (
        django_assert_num_queries(0),
        pytest.raises(ItemsRefusedError, match=r"2 of the items for invite") as caught,
    ):
        invite.defer_many(bad)

    assert _nothing_is_written()
    assert list(caught.value.problems) == [2, 4]
    refused = caught.value.problems[2]
    assert isinstance(refused, ArgumentsRefusedError)
    assert list(refused.problems) == ["guest_id"]
    assert "item 2: guest_id: " in str(caught.value)
    assert "item 4: nick: Unknown argument." in str(caught.value)
    # The others were fine: they are written once the two are gone.
    assert len(invite.defer_many([bad[0], bad[1], bad[3]])) == 3


@pytest.mark.parametrize(
    "item",
    [{}, {"name": "ada"}, {"guest_id": 1, "name": "\x00"}, {"guest_id": 1, "name": "a", "x": 1}],
)
def test_an_item_is_refused_wherever_it_stands(item: dict[str, Any]) -> None:
    for index in range(3):
        items: list[dict[str, Any]] = [*GUESTS[:2]]
        items.insert(index, item)
        with pytest.raises(ItemsRefusedError) as caught:
            invite.defer_many(items)
        assert list(caught.value.problems) == [index]
    assert _nothing_is_written()


def test_a_lone_item_is_refused_by_its_index_too() -> None:
    with pytest.raises(ItemsRefusedError, match="item 0: name: Required") as caught:
        invite.defer_many([{"guest_id": 1}])

    assert (caught.value.code, caught.value.task_name) == ("invalid_items", "invite")


def test_an_oversize_item_is_refused_with_its_index(settings: Any) -> None:
    settings.JOBS_ARGUMENTS_MAX_BYTES = 100

    with pytest.raises(ItemsRefusedError, match="item 1: The value takes") as caught:
        invite.defer_many([GUESTS[0], {"guest_id": 1, "name": "a" * 100}])

    assert isinstance(caught.value.problems[1], JSONTooLargeError)
    assert _nothing_is_written()


def test_locks_and_ids_that_are_too_long_are_refused_with_their_index() -> None:
    @declare(queue="q", subject="thing", lock="{name}")
    def about(thing_id: str, name: str) -> None: ...

    with pytest.raises(ItemsRefusedError) as caught:
        about.defer_many(
            [
                {"thing_id": "x", "name": "x"},
                {"thing_id": "x" * 129, "name": "x"},
                {"thing_id": "x", "name": "x" * 256},
            ]
        )

    assert list(caught.value.problems) == [1, 2]
    assert _nothing_is_written()


def test_the_message_tells_of_the_first_few_only() -> None:
    with pytest.raises(ItemsRefusedError) as caught:
        invite.defer_many([{}] * 1000)

    assert len(caught.value.problems) == 1000
    assert "item 4:" in str(caught.value)
    assert "item 5:" not in str(caught.value)
    assert str(caught.value).endswith("...")


@pytest.mark.parametrize("items", [GUESTS[0], ["ada"], [GUESTS[0], None], [[("name", "ada")]]])
def test_items_that_are_no_mappings_are_a_mistake_of_the_caller(items: Any) -> None:
    with pytest.raises(TypeError, match=r"invite\.defer_many\(\): item \d is not a mapping"):
        invite.defer_many(items)

    assert _nothing_is_written()


@pytest.mark.parametrize("options", [{"queueing_lock": "only one"}, {"unique": "only one"}])
def test_of_several_none_can_share_a_queueing_lock(options: Any) -> None:
    (option,) = options

    with pytest.raises(BadDeferOptionError, match=f"Option {option} .* there are 2"):
        invite.configure(**options).defer_many(GUESTS[:2])

    assert _nothing_is_written()


def test_one_item_can_have_a_queueing_lock() -> None:
    (first,) = invite.configure(unique="only one").defer_many(GUESTS[:1])
    (second,) = invite.configure(unique="only one").defer_many(GUESTS[1:2])

    assert (first.created, second.created) == (True, False)
    assert (second.task_id, second.job_id) == (first.task_id, first.job_id)
    with pytest.raises(AlreadyWaitingError):
        invite.configure(queueing_lock="only one").defer_many(GUESTS[:1])


@pytest.mark.django_db(transaction=True)
def test_without_a_transaction_all_are_committed() -> None:
    handles = invite.defer_many(GUESTS)

    assert connection.in_atomic_block is False
    assert len(_tasks(handles)) == len(_jobs(handles)) == 5


@pytest.mark.django_db(transaction=True)
def test_rollback_leaves_nothing() -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        invite.defer_many(GUESTS)
        assert Task.objects.count() == ProcrastinateJob.objects.count() == 5
        _fail()

    assert _nothing_is_written()


@pytest.mark.django_db(transaction=True)
def test_the_callers_savepoint_takes_back_its_own_only() -> None:
    with transaction.atomic():
        outer = invite.defer_many(GUESTS[:2])
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            invite.defer_many(GUESTS[2:])
            _fail()

    assert set(Task.objects.values_list("pk", flat=True)) == {handle.task_id for handle in outer}
    assert ProcrastinateJob.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_what_the_database_refuses_leaves_nothing() -> None:
    with correlated("x" * 129), pytest.raises(DataError):
        invite.defer_many(GUESTS)

    assert _nothing_is_written()


@pytest.mark.parametrize(
    ("name", "limit"), [("MAX_JOBS_A_STATEMENT", 2), ("MAX_CHARACTERS_A_STATEMENT", 400)]
)
def test_more_than_one_statement_takes_go_in_several_and_in_order(
    name: str,
    limit: int,
    monkeypatch: pytest.MonkeyPatch,
    django_assert_num_queries: CountsQueries,
) -> None:
    monkeypatch.setattr(deferral, name, limit)

    with django_assert_num_queries(3):
        handles = invite.defer_many(GUESTS)

    assert [job.args for job in _jobs(handles)] == GUESTS
    assert handles == sorted(handles, key=lambda handle: handle.job_id)
    assert handles == sorted(handles, key=lambda handle: handle.task_id)


def test_an_item_longer_than_a_statement_should_be_goes_alone(
    monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: CountsQueries
) -> None:
    monkeypatch.setattr(deferral, "MAX_CHARACTERS_A_STATEMENT", 1)

    with django_assert_num_queries(5):
        handles = invite.defer_many(GUESTS)

    assert [job.args for job in _jobs(handles)] == GUESTS


def test_a_document_holds_the_most_that_a_statement_takes(
    django_assert_num_queries: CountsQueries,
) -> None:
    text = "x" * 60_000

    with django_assert_num_queries(2):  # 280 of 60,000 characters are more than 2^24
        handles = job_samples.give_back.defer_many([{"value": text}] * 300)

    assert {len(json.dumps(job.args)) for job in _jobs(handles)} == {60_013}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("in_a_transaction", [False, True])
def test_when_a_later_statement_fails_the_earlier_leave_nothing(
    in_a_transaction: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deferral, "MAX_JOBS_A_STATEMENT", 2)
    statements = 0

    def fail_the_second(execute: Any, sql: str, *rest: Any) -> Any:
        nonlocal statements
        statements += sql.startswith("-- defer_many")
        if statements == 2:
            raise DatabaseError("the weather")
        return execute(sql, *rest)

    def defer_and_go_on() -> None:
        with pytest.raises(DatabaseError, match="the weather"):
            invite.defer_many(GUESTS)

    with connection.execute_wrapper(fail_the_second):
        if in_a_transaction:
            with transaction.atomic():
                defer_and_go_on()
        else:
            defer_and_go_on()

    assert statements == 2
    assert _nothing_is_written()


@pytest.mark.django_db(transaction=True)
def test_ids_fit_their_items_when_many_defer_at_once() -> None:
    def defer(caller: int) -> list[tuple[int, Deferred]]:
        try:
            numbers = range(caller * 1000, caller * 1000 + 200)
            items = [{"guest_id": number, "name": "n"} for number in numbers]
            return list(zip(numbers, invite.defer_many(items), strict=True))
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as callers:
        pairs = [pair for pairs in callers.map(defer, range(8)) for pair in pairs]

    arguments = dict(Task.objects.values_list("job_id", "input_data__guest_id"))
    tasks = dict(Task.objects.values_list("job_id", "pk"))
    assert arguments == {handle.job_id: number for number, handle in pairs}
    assert tasks == {handle.job_id: handle.task_id for _, handle in pairs}


@pytest.mark.django_db(transaction=True)
def test_defer_many_async_writes_the_same() -> None:
    async def both() -> tuple[list[Deferred], list[Deferred]]:
        plain = await invite.defer_many_async(GUESTS)
        return plain, await invite.configure(priority=5).defer_many_async(GUESTS[:2])

    plain, urgent = asyncio.run(both())

    assert [job.args for job in _jobs(plain)] == GUESTS
    assert [job.priority for job in _jobs(urgent)] == [5, 5]


def test_what_was_deferred_at_once_is_seen_by_the_module_for_tests(settings: Any) -> None:
    settings.JOBS_WORKER_APP = "job_samples.app"
    items = [{"account": f"account {n}", "password": f"p{n}"} for n in range(20)]

    handles = job_samples.keep_secret.defer_many(items)

    assert [task.pk for task in deferred(job_samples.keep_secret)] == [h.task_id for h in handles]
    assert assert_deferred(job_samples.keep_secret, password="p3").pk == handles[3].task_id
    ended = run_jobs()
    assert [task.pk for task in ended] == [handle.task_id for handle in handles]
    assert [task.result["account"] for task in ended] == [item["account"] for item in items]


@pytest.fixture
def eager(settings: Any) -> None:
    """Run what is deferred at once."""
    settings.JOBS_EAGER = True
    settings.JOBS_WORKER_APP = "job_samples.app"


def test_in_eager_mode_all_have_run_in_order(eager: None) -> None:
    handles = job_samples.give_back.defer_many([{"value": {"number": n}} for n in range(3)])

    tasks = _tasks(handles)
    assert [(task.status, task.result) for task in tasks] == [
        ("DONE", {"number": n}) for n in range(3)
    ]
    assert tasks == sorted(tasks, key=lambda task: task.finished_at)


def test_in_eager_mode_the_first_error_is_raised_and_the_jobs_after_it_wait(eager: None) -> None:
    with pytest.raises(job_samples.SampleRefusedError):
        job_samples.fail.defer_many([{"kind": "refused"}, {"kind": "transient"}])

    refused, waiting = Task.objects.order_by("id")
    assert (refused.status, waiting.status) == ("FAILED", "PENDING")


def test_in_eager_mode_a_job_that_waits_already_is_not_run(settings: Any, eager: None) -> None:
    unique = job_samples.nap.configure(unique="u")
    settings.JOBS_EAGER = False
    (waiting,) = unique.defer_many([{"seconds": 0}])
    settings.JOBS_EAGER = True

    (again,) = unique.defer_many([{"seconds": 0}])

    assert again.task_id == waiting.task_id
    assert Task.objects.get().status == "PENDING"


def _fail() -> None:
    raise ZeroDivisionError
