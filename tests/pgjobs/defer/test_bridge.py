"""Deferring: Task and job in one statement, on the caller's connection."""

import subprocess
import sys
import time
from typing import Any

import job_samples
import pytest
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from procrastinate.contrib.django.models import ProcrastinateJob
from programs import PROJECT

from pgjobs.contract.arguments import ArgumentsRefusedError
from pgjobs.contract.json_values import JSONTooLargeError
from pgjobs.defer.bridge import BadDeclarationError, app, declare, owned_by
from pgjobs.defer.ids import uuid7
from pgjobs.observe.correlation import correlated
from pgjobs.tracking.models import Task

GUEST = {"name": "ada", "email": "ada@example.org"}


@declare(queue="guests", operation="CREATE", subject="guest")
def invite(name: str, email: str, nick: str = "", note: str = "") -> None: ...


@pytest.mark.django_db
def test_defer_writes_task_and_job_in_one_statement() -> None:
    with CaptureQueriesContext(connection) as queries:
        deferred = invite.defer(**GUEST)

    assert len(queries) == 1
    task = Task.objects.get(pk=deferred.task_id)
    job = ProcrastinateJob.objects.get(pk=deferred.job_id)
    assert (task.job_id, task.status, task.task_name) == (job.pk, "PENDING", "invite")
    assert (job.task_name, job.queue_name, job.status) == ("invite", "guests", "todo")
    assert job.args == task.input_data == GUEST
    assert (task.operation, task.related_table, task.related_id) == ("CREATE", "guest", None)


@pytest.mark.django_db
def test_queue_lock_and_priority_come_from_the_declaration() -> None:
    @declare(queue="elsewhere", priority=7, lock="thing:{thing_id}")
    def urgent(thing_id: int) -> None: ...

    job = ProcrastinateJob.objects.get(pk=urgent.defer(thing_id=5).job_id)

    assert (job.queue_name, job.priority, job.lock) == ("elsewhere", 7, "thing:5")


@pytest.mark.django_db(transaction=True)
def test_rollback_leaves_neither_task_nor_job() -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        invite.defer(**GUEST)
        assert Task.objects.count() == ProcrastinateJob.objects.count() == 1
        _fail()

    assert Task.objects.count() == ProcrastinateJob.objects.count() == 0


@pytest.mark.django_db(transaction=True)
def test_an_inner_atomic_that_rolls_back_leaves_no_inner_job() -> None:
    with transaction.atomic():
        outer = invite.defer(**GUEST)
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            invite.defer(name="inner", email="inner@example.org")
            _fail()

    assert list(Task.objects.values_list("pk", flat=True)) == [outer.task_id]
    assert list(ProcrastinateJob.objects.values_list("pk", flat=True)) == [outer.job_id]


@pytest.mark.django_db
@pytest.mark.parametrize(
    "arguments",
    [{}, {**GUEST, "age": "x"}, {**GUEST, "nick": 7}, {**GUEST, "email": "\x00"}],
)
def test_bad_arguments_are_refused_and_nothing_is_written(arguments: dict[str, Any]) -> None:
    with pytest.raises(ArgumentsRefusedError):
        invite.defer(**arguments)

    assert not Task.objects.exists()
    assert not ProcrastinateJob.objects.exists()


@pytest.mark.django_db
def test_oversize_arguments_are_refused(settings: Any) -> None:
    settings.JOBS_ARGUMENTS_MAX_BYTES = 1000

    with pytest.raises(JSONTooLargeError, match="at most 1000"):
        invite.defer(name="a" * 1000, email="a@example.org")


@pytest.mark.django_db
def test_a_lock_longer_than_its_bound_is_refused() -> None:
    @declare(queue="q", lock="{name}")
    def locked(name: str) -> None: ...

    with pytest.raises(ArgumentsRefusedError, match="longer than 255"):
        locked.defer(name="x" * 256)


@pytest.mark.django_db
def test_sensitive_arguments_are_redacted_on_the_task_and_whole_in_the_job() -> None:
    deferred = job_samples.keep_secret.defer(account="a", password="hunter2")

    task = Task.objects.get(pk=deferred.task_id)
    assert task.input_data == {"account": "a", "password": "***"}
    assert ProcrastinateJob.objects.get(pk=deferred.job_id).args["password"] == "hunter2"


@pytest.mark.django_db
def test_task_carries_owner_and_correlation_of_its_surroundings(user: Any) -> None:
    with owned_by(user.pk), correlated("of-the-request"):
        inside = Task.objects.get(pk=invite.defer(**GUEST).task_id)
    outside = Task.objects.get(pk=invite.defer(**GUEST).task_id)

    assert (inside.owner, inside.correlation_id) == (user, "of-the-request")
    assert (outside.owner, outside.correlation_id) == (None, "unknown")


def test_positional_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match="keyword arguments only"):
        invite.defer("ada", "ada@example.org")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"queue": "q" * 41}, "queue .* 1 to 40 bytes"),
        ({"queue": ""}, "queue .* 1 to 40 bytes"),
        ({"queue": None}, "queue .* a NoneType; give a text"),
        ({"queue": "\ud800"}, "queue .* surrogate"),
        ({"queue": "a\x00"}, "queue .* NUL"),
        ({"queue": "q", "priority": True}, "priority .* a bool; give a whole number"),
        ({"queue": "q", "priority": 2**31}, "priority .* 32 bits"),
        ({"queue": "q", "lock": "\x00"}, "lock .* NUL"),
        ({"queue": "q", "lock": 5}, "lock .* an int; give a text"),
        ({"queue": "q", "sensitive": ("nick",)}, "nick"),
        ({"queue": "q", "lock": "user:{nick}"}, "lock"),
        ({"queue": "q", "lock": "user:{optional}"}, "lock"),
        ({"queue": "q", "lock": "{"}, "lock"),
    ],
)
def test_a_declaration_that_cannot_work_is_refused_at_once(
    options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(BadDeclarationError, match=reason):

        @declare(**options)
        def sample(name: str, optional: str = "") -> None: ...


def test_ids_are_uuid7_and_in_the_order_of_time() -> None:
    before = time.time_ns() // 1_000_000
    first = uuid7()
    time.sleep(0.002)  # the next millisecond, which is what orders them
    second = uuid7()

    assert (first.version, first.variant) == (7, "specified in RFC 4122")
    assert before <= first.int >> 80 <= time.time_ns() // 1_000_000
    assert first < second


@pytest.mark.django_db
def test_app_of_the_menu_defers_over_djangos_connection_and_works_no_jobs() -> None:
    with transaction.atomic():
        job_id = app.configure_task("invite", queue="guests").defer(**GUEST)

    assert ProcrastinateJob.objects.filter(pk=job_id).exists()
    with pytest.raises(RuntimeError, match=r"procrastinate --app=tasks\.app worker"):
        app.run_worker()


def _fail() -> None:
    raise ZeroDivisionError


def _python(code: str) -> str:
    return subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], check=True, cwd=PROJECT, capture_output=True, text=True
    ).stdout.strip()


def test_a_menu_loads_itself_and_the_bridge_after_djangos_setup() -> None:
    loaded = _python(
        "import os, sys\n"
        "sys.path.insert(0, 'tests/support')\n"
        "os.environ['DJANGO_SETTINGS_MODULE'] = 'sample.settings'\n"
        "import django; django.setup()\n"
        "before = set(sys.modules)\n"
        "import sample.tasks\n"
        "print(*sorted(set(sys.modules) - before))"
    )

    # A domain's models may have loaded it before.
    assert {*loaded.split(), "pgjobs.database.prepared"} == {
        "pgjobs.database.prepared",
        "sample.tasks",
        "pgjobs.defer.bridge",
        "pgjobs.defer.options",
        "pgjobs.defer.deferral",
        "pgjobs.contract.retries",
        "pgjobs.database.backoff",
        "pgjobs.database.read_only",
    }


@pytest.mark.django_db
def test_an_owner_who_was_deleted_meanwhile_is_no_obstacle(user: Any) -> None:
    gone = user.pk
    user.delete()

    with owned_by(gone):
        deferred = invite.defer(**GUEST)
    connection.check_constraints()

    assert Task.objects.get(pk=deferred.task_id).owner_id == gone


@pytest.mark.django_db
def test_an_owner_is_known_by_the_text_of_the_key(user: Any) -> None:
    with owned_by(str(user.pk)):
        deferred = invite.defer(**GUEST)

    assert Task.objects.get(pk=deferred.task_id).owner == user


def test_what_can_be_no_key_of_a_user_is_refused_before_anything_is_deferred() -> None:
    with pytest.raises(ValidationError, match="is not a valid UUID"), owned_by("olga"):
        pytest.fail("it went on")


@pytest.mark.django_db
def test_an_id_of_the_subject_that_is_too_long_is_refused() -> None:
    @declare(queue="q", subject="thing")
    def about(thing_id: str) -> None: ...

    with pytest.raises(ArgumentsRefusedError, match="thing_id: As an id"):
        about.defer(thing_id="x" * 129)


def test_what_is_sensitive_is_neither_the_subjects_id_nor_in_a_lock() -> None:
    for options in ({"subject": "thing"}, {"lock": "thing:{thing_id}"}):
        with pytest.raises(BadDeclarationError):

            @declare(queue="q", sensitive=("thing_id",), **options)  # type: ignore[arg-type]
            def about(thing_id: str) -> None: ...


@pytest.mark.django_db
@pytest.mark.parametrize("share", [1e16, -1e300, 0.1, 3, 5e-324])
def test_floats_come_back_from_the_database_as_they_were(share: float) -> None:
    @declare(queue="q")
    def weigh(share: float) -> None: ...

    stored = ProcrastinateJob.objects.get(pk=weigh.defer(share=share).job_id).args

    loaded = weigh.arguments.load(stored)["share"]
    assert (loaded, type(loaded)) == (share, float)
