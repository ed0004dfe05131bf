"""`@task`: declaration and implementation in one function."""

from datetime import date
from typing import Any
from uuid import UUID, uuid4

import pytest
from procrastinate.contrib.django.models import ProcrastinateJob

from pgjobs import RetryPolicy, Snooze, TaskContext, app, task
from pgjobs.contract.arguments import ArgumentsRefusedError
from pgjobs.contract.retries import BadRetryPolicyError
from pgjobs.defer.bridge import BadDeclarationError, Deferred, TaskSpec
from pgjobs.testing import run_jobs
from pgjobs.tracking.models import Task
from pgjobs.worker.app import JobsApp
from pgjobs.worker.errors import (
    AsyncAtomicError,
    BadResultTypeError,
    BadScheduleError,
    BadTimeLimitsError,
)


@task
def add(*, left: int, right: int = 1) -> dict[str, int]:
    """Add two numbers."""
    return {"sum": left + right}


@task(queue="slow", lock="order:{order_id}", subject="order", operation="UPDATE", atomic=True)
def pack(context: TaskContext, *, order_id: UUID) -> dict[str, Any]:
    context.progress(50)
    return {"order_id": str(order_id), "attempt": context.attempt}


@task(retry=RetryPolicy(max_attempts=2))
async def wait(context: TaskContext, *, runs: int) -> dict[str, int]:
    if context.attempt < runs:
        raise Snooze(seconds=0)
    return {"attempt": context.attempt}


@task(cron="* * * * *")
def sweep() -> None:
    """Sweep, whenever it is."""


@task(cron="* * * * *")
def strike(*, timestamp: int, bells: int = 1) -> None:
    assert (timestamp, bells) == (60, 1)


def counts() -> list[int]:
    """Return what is no result."""
    return []


def at_a_date(timestamp: date) -> None:
    """Ask for what no schedule gives."""


TASKS = (add, pack, wait, sweep, strike)
APP_SPECS = {spec.name: spec for spec in TASKS}


@pytest.fixture
def worker_app(settings: Any, monkeypatch: pytest.MonkeyPatch) -> JobsApp:
    """The app of a worker that has these tasks and no other."""
    app = JobsApp(specs=APP_SPECS, import_paths=[])
    monkeypatch.setattr("tasks.app", app)
    settings.JOBS_WORKER_APP = "tasks.app"
    return app


def test_a_task_is_declared_and_implemented_by_one_function(worker_app: JobsApp) -> None:
    assert type(add) is TaskSpec
    assert worker_app.mismatches() == []
    assert worker_app.implemented.keys() == APP_SPECS.keys()


def test_what_declares_says_what_the_declaration_is() -> None:
    assert (add.name, add.queue, add.description) == ("add", "default", "Add two numbers.")
    assert (pack.queue, pack.lock, pack.operation) == ("slow", "order:{order_id}", "UPDATE")
    assert wait.retry == RetryPolicy(max_attempts=2)


def test_callers_know_nothing_of_the_context() -> None:
    assert pack.arguments.names == {"order_id"}
    with pytest.raises(ArgumentsRefusedError, match="context"):
        pack.defer(context=None, order_id=uuid4())


def test_the_function_itself_can_be_called() -> None:
    assert add.function is not None
    assert add.function(left=2, right=3) == {"sum": 5}


def test_a_call_without_defer_says_what_to_write() -> None:
    with pytest.raises(TypeError, match=r"add\.defer\(\.\.\.\); .* add\.function"):
        add(left=2)  # type: ignore[operator]


@pytest.mark.django_db
@pytest.mark.usefixtures("worker_app")
def test_each_kind_runs_as_the_worker_was_told() -> None:
    order_id = uuid4()
    deferred = [add.defer(left=2), pack.defer(order_id=order_id), wait.defer(runs=1)]

    run_jobs()

    assert [_result(each) for each in deferred] == [
        {"sum": 3},
        {"order_id": str(order_id), "attempt": 1},
        {"attempt": 1},
    ]


def test_the_worker_s_options_reach_the_worker(worker_app: JobsApp) -> None:
    atomic = {name: work.is_atomic for name, work in worker_app.implemented.items()}

    assert atomic == {spec.name: spec is pack for spec in TASKS}


@pytest.mark.django_db
@pytest.mark.usefixtures("worker_app")
@pytest.mark.parametrize("spec", [sweep, strike])
def test_a_schedule_gives_the_time_to_those_that_take_it(spec: TaskSpec[...]) -> None:
    # As a schedule does: by the library, with the time, and without a Task.
    app.configure_task(spec.name, queue=spec.queue).defer(timestamp=60)

    run_jobs()

    assert ProcrastinateJob.objects.get().status == "succeeded"


def test_what_does_not_fit_is_refused_where_it_is_written() -> None:
    with pytest.raises(BadDeclarationError, match="lock"):
        task(lock="order:{order_id}")(add.function)
    with pytest.raises(BadRetryPolicyError, match="3"):
        task(retry=3)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="'bind'; its options are atomic, cron, errors, hard_limit"):
        task(bind=True)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        (task(atomic=True)(wait.function), AsyncAtomicError),
        (task(soft_limit=2, hard_limit=1)(add.function), BadTimeLimitsError),
        (task(counts), BadResultTypeError),
        (task(cron="*/15 * * *")(sweep.function), BadScheduleError),
        (task(cron="61 * * * *")(sweep.function), BadScheduleError),
        (task(cron="* * * * *")(add.function), BadScheduleError),
        (task(cron="* * * * *")(at_a_date), BadScheduleError),
    ],
)
def test_what_no_worker_could_run_stops_the_worker(spec: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        JobsApp(specs={spec.name: spec}, import_paths=[])


def _result(deferred: Deferred) -> Any:
    return Task.objects.get(pk=deferred.task_id).result
