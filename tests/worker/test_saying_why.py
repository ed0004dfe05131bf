"""Saying why a run failed never fails itself, and never keeps the event loop waiting."""

import logging
import threading
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any

import atomic_samples
import job_samples
import pytest
from atomic_samples import PATIENCE, deeds, new_app, working
from django.conf import settings
from django.db import connection
from django.test import override_settings
from procrastinate import BaseRetryStrategy, PsycopgConnector, RetryDecision
from procrastinate.contrib.django.models import ProcrastinateJob
from procrastinate.contrib.django.utils import connector_params
from programs import eventually

from pgjobs.contract.retries import RetryPolicy
from pgjobs.defer.bridge import Deferred
from pgjobs.errors import AppError
from pgjobs.observe.redaction import of_deployment
from pgjobs.tracking.models import Attempt, Task
from pgjobs.worker.app import JobsApp
from pgjobs.worker.execute import saying

pytestmark = pytest.mark.django_db(transaction=True)

type Caplog = pytest.LogCaptureFixture
type MonkeyPatch = pytest.MonkeyPatch

SPECS = [atomic_samples.act_plainly, atomic_samples.act_async, atomic_samples.act]
names_of_specs = [spec.name for spec in SPECS]


@pytest.fixture
def free() -> Iterator[threading.Event]:
    """What errors of these tests wait for; set at the end of the test."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def _settings_read_again() -> Iterator[None]:
    of_deployment.cache_clear()
    yield
    of_deployment.cache_clear()


def _deferred(
    make: Callable[[], BaseException], spec: Any = atomic_samples.act_plainly
) -> Deferred:
    """Defer a job that raises what `make` returns."""
    name = f"deed {len(deeds)}"

    def fail(_context: Any) -> Any:
        raise make()

    async def fail_async(_context: Any) -> Any:
        raise make()

    deeds[name] = fail_async if spec is atomic_samples.act_async else fail
    deferred: Deferred = spec.defer(deed=name)
    return deferred


def _innocent() -> Deferred:
    async def nothing(_context: Any) -> Any:
        return {"fine": True}

    deeds["nothing"] = nothing
    return atomic_samples.act_async.defer(deed="nothing")


def _ended(deferred: Deferred) -> Task:
    tasks = Task.objects.filter(pk=deferred.task_id, end_status__isnull=False)
    ended: Task = eventually(tasks.first, within_seconds=PATIENCE)
    return ended


def _waiting(free: threading.Event, began: threading.Event | None = None) -> Exception:
    """Return an error that says nothing until the test lets it."""

    class WaitingError(Exception):
        def __str__(self) -> str:
            if began:
                began.set()
            free.wait(PATIENCE)
            return "at last"

    return WaitingError()


def _lines(caplog: Caplog) -> list[logging.LogRecord]:
    return [record for record in caplog.records if "job failed" in record.getMessage()]


@pytest.mark.usefixtures("_settings_read_again")
@pytest.mark.parametrize(
    ("name", "value"),
    [("MAILERS", None), ("MAILERS", ["odd"]), ("SECRET_KEY", b"bytes of a key"),
     ("SECRET_KEY", 1234567890123), ("DATABASES", {"default": {"PASSWORD": 1234567890123}})],
)  # fmt: skip
def test_a_job_fails_whatever_the_settings_hold(
    worker_app: JobsApp, monkeypatch: MonkeyPatch, name: str, value: Any
) -> None:
    if value is None:
        monkeypatch.delattr(settings, name)
    else:
        monkeypatch.setattr(settings, name, value)
    deferred = _deferred(lambda: ValueError("it is 1234567890123"))

    with working(worker_app):
        assert _ended(deferred).status == "FAILED"

    attempt = Attempt.objects.get()
    assert attempt.error_class.endswith("ValueError")
    assert ("1234567890123" in attempt.traceback) == (value in (None, ["odd"], b"bytes of a key"))


class OddMeta(type):
    """Gives no name."""

    def __getattribute__(cls, name: str) -> Any:
        if name in ("__name__", "__qualname__", "__module__"):
            raise RuntimeError(name)
        return super().__getattribute__(name)

    def __eq__(cls, other: object) -> bool:
        raise RuntimeError("not to be compared")

    __hash__ = type.__hash__


class NamelessError(Exception, metaclass=OddMeta):
    """Has a class that cannot be asked."""


class ClasslessError(Exception):
    """Lies about its class."""

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise RuntimeError("no class")


class LeavingError(Exception):
    """Ends the process, if it can."""

    def __str__(self) -> str:
        raise SystemExit(3)


class OddCodeError(AppError):
    """Has a code that is none."""

    code = object()  # type: ignore[assignment]


class CodelessError(AppError):
    """Has a code that cannot be asked."""

    @property
    def code(self) -> str:  # type: ignore[override]
        raise RuntimeError("no code")


def _overflow() -> BaseException:
    try:
        return _overflow()
    except RecursionError as error:
        return error


ODD_ERRORS: list[Callable[[], BaseException]] = [
    NamelessError, ClasslessError, LeavingError, OddCodeError, CodelessError,
    lambda: AppError(**{"message\x00": "\ud800"}),
    lambda: ExceptionGroup("\ud800\x00", [LeavingError(), ValueError()]),
    lambda: ValueError("x" * 10_000_000),
    _overflow,
    lambda: ExceptionGroup("many", [ExceptionGroup("of many", [ValueError()] * 100)] * 100),
]  # fmt: skip


@pytest.mark.parametrize("spec", SPECS, ids=names_of_specs)
@pytest.mark.parametrize("make", ODD_ERRORS, ids=range(len(ODD_ERRORS)))
def test_no_error_is_too_odd_to_end_a_run(worker_app: JobsApp, spec: Any, make: Any) -> None:
    deferred = _deferred(make, spec)

    with working(worker_app):
        task = _ended(deferred)
        assert _ended(_innocent()).status == "DONE"

    assert task.status == "FAILED"
    assert ProcrastinateJob.objects.get(pk=deferred.job_id).status == "failed"
    assert Attempt.objects.filter(task=task, kind="failed").count() == 1


@pytest.mark.parametrize("spec", SPECS, ids=names_of_specs)
def test_an_error_that_never_says_what_it_is_holds_nothing_up(
    worker_app: JobsApp, spec: Any, free: threading.Event, monkeypatch: MonkeyPatch, caplog: Caplog
) -> None:
    monkeypatch.setattr(saying, "DEADLINE_SECONDS", 2.0)
    began = threading.Event()
    deferred = _deferred(lambda: _waiting(free, began), spec)

    with working(worker_app):
        assert began.wait(PATIENCE)
        assert _ended(_innocent()).status == "DONE"
        assert Task.objects.get(pk=deferred.task_id).status == "PROCESSING"
        task = _ended(deferred)
        free.set()

    assert task.error == {
        "code": "unexpected_error",
        "message": "The task failed with an unexpected error.",
    }
    assert Attempt.objects.get(task=task).traceback == ""
    assert any("its error did not say what it is" in message for message in caplog.messages)


def test_errors_that_never_say_what_they_are_starve_no_other(
    worker_app: JobsApp, free: threading.Event, monkeypatch: MonkeyPatch
) -> None:
    monkeypatch.setattr(saying, "DEADLINE_SECONDS", 0.2)
    monkeypatch.setattr(settings, "JOBS_WORKER_MAX_LOST_THREADS", 10)
    silent = [_deferred(lambda: _waiting(free)) for _ in range(saying.THREADS + 1)]

    with working(worker_app) as worker:
        for deferred in silent:
            _ended(deferred)
        speaks = _ended(_deferred(lambda: ValueError("a word")))
        assert worker.worker is not None
        assert worker.worker.runner.lost == len(silent)
        free.set()

    assert "a word" in Attempt.objects.get(task=speaks).traceback


def test_a_worker_that_stops_waits_for_what_an_error_says(
    worker_app: JobsApp, free: threading.Event
) -> None:
    began = threading.Event()
    deferred = _deferred(lambda: _waiting(free, began))

    with working(worker_app, shutdown_graceful_timeout=0.1) as worker:
        assert began.wait(PATIENCE)
        assert _ended(_innocent()).status == "DONE"  # after which nothing is left to write
        assert worker.worker is not None
        worker.worker.stop()
        eventually(lambda: worker.worker and worker.worker.places.empty)
        threading.Timer(0.5, free.set).start()

    assert _ended(deferred).status == "FAILED"
    assert "at last" in Attempt.objects.get().traceback


class OddStrategy(BaseRetryStrategy):
    """A retry strategy of Procrastinate's that does what the test says."""

    def __init__(self, decide: Callable[[], Any]) -> None:
        self.decide = decide

    def get_retry_decision(self, **_facts: Any) -> RetryDecision | None:
        decision: RetryDecision | None = self.decide()
        return decision


def _raise(error: BaseException) -> Any:
    raise error


def _decisions(free: threading.Event) -> dict[str, Callable[[], Any]]:
    return {
        "raises": lambda: _raise(RuntimeError("no policy")),
        "raises oddly": lambda: _raise(NamelessError()),
        "exits": lambda: _raise(SystemExit(3)),
        "waits": lambda: free.wait(4 * PATIENCE) and None,
        "no decision": lambda: "soon",
        "no priority": lambda: RetryDecision(retry_in={"seconds": 1}, priority=object()),  # type: ignore[call-overload]
        "a bad queue": lambda: RetryDecision(retry_in={"seconds": 1}, queue="\x00"),
    }


@pytest.mark.parametrize(
    "kind",
    ["raises", "raises oddly", "exits", "waits", "no decision", "no priority", "a bad queue"],
)
def test_no_retry_strategy_is_too_odd_to_end_a_run(
    worker_app: JobsApp, free: threading.Event, monkeypatch: MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(saying, "DEADLINE_SECONDS", 0.5)
    app = new_app()

    @app.task(name="odd", queue="deeds", retry=OddStrategy(_decisions(free)[kind]))
    def odd() -> None:
        raise ValueError

    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('deeds', 'odd')"
        )
    connector = PsycopgConnector(kwargs=connector_params(), min_size=1, max_size=4)
    with app.replace_connector(connector), working(app):
        eventually(ProcrastinateJob.objects.filter(status="failed").exists)
        assert _ended(_innocent()).status == "DONE"
        free.set()


@pytest.mark.parametrize("delay", [float("nan"), float("inf"), "soon", None])
def test_no_retry_policy_is_too_odd_to_end_a_run(
    worker_app: JobsApp, monkeypatch: MonkeyPatch, delay: Any
) -> None:
    class OddPolicy(RetryPolicy):
        def delay_seconds(self, *, failed_runs: int, error: BaseException) -> float | None:
            if delay is None:
                raise NamelessError
            seconds: float = delay
            return seconds

    monkeypatch.setattr(atomic_samples.act_plainly, "retry", OddPolicy())
    with working(worker_app):
        assert _ended(_deferred(ConnectionError)).status == "FAILED"


def test_a_run_that_fails_to_be_translated_ends(
    worker_app: JobsApp, monkeypatch: MonkeyPatch, caplog: Caplog
) -> None:
    monkeypatch.setattr(
        "pgjobs.worker.complete.outcome._", lambda _text: _raise(LookupError("no language"))
    )

    with working(worker_app):
        task = _ended(_deferred(ValueError))

    assert task.error["code"] == "unexpected_error"
    assert any("cannot be told: LookupError: no language" in said for said in caplog.messages)


@pytest.mark.parametrize("make", ODD_ERRORS[:2], ids=["nameless", "classless"])
def test_an_odd_error_of_a_task_that_runs_at_once_is_raised_and_written(
    samples: Any, monkeypatch: MonkeyPatch, make: Any
) -> None:
    error = make()
    function = samples.implemented["describe_run"]
    monkeypatch.setattr(function, "_function", lambda **_arguments: _raise(error))

    raised: BaseException | None = None
    try:
        with override_settings(JOBS_EAGER=True, JOBS_WORKER_APP="job_samples.app"):
            job_samples.describe_run.defer()
    except Exception as caught:  # noqa: BLE001 # pytest.raises would ask it for its class
        raised = caught

    is_the_same = raised is error
    assert is_the_same
    assert Task.objects.get().status == "FAILED"


@pytest.mark.parametrize("spec", SPECS, ids=names_of_specs)
def test_each_run_that_fails_logs_its_error_and_the_frames_of_the_task(
    worker_app: JobsApp, spec: Any, caplog: Caplog
) -> None:
    deferred = _deferred(lambda: ConnectionError("refused by the far end"), spec)

    with working(worker_app):
        assert _ended(deferred).attempts == 3

    lines = _lines(caplog)
    assert [line.levelname for line in lines] == ["WARNING", "WARNING", "ERROR"]
    for line in lines:
        assert line.getMessage().endswith("ConnectionError: refused by the far end")
        frames = vars(line)["exception"].splitlines()
        assert "atomic_samples.py" in frames[1]
        assert any("test_saying_why.py" in frame for frame in frames)
        assert not any("pgjobs/worker" in frame for frame in frames)


def test_an_error_of_ours_is_logged_with_what_it_says(worker_app: JobsApp, caplog: Caplog) -> None:
    def refused() -> BaseException:
        return job_samples.SampleRefusedError(reason="it is too small")

    with working(worker_app):
        _ended(_deferred(refused))

    (line,) = _lines(caplog)
    assert line.levelname == "WARNING"
    assert "SampleRefusedError: The sample was refused because it is too small" in line.getMessage()


@pytest.mark.usefixtures("_settings_read_again")
def test_secrets_stand_in_no_line_about_a_failure(
    worker_app: JobsApp, monkeypatch: MonkeyPatch, caplog: Caplog
) -> None:
    monkeypatch.setattr(settings, "SECRET_KEY", "c4n4ry-of-a-key")

    with working(worker_app):
        _ended(_deferred(lambda: ValueError("the key is c4n4ry-of-a-key")))

    (line,) = _lines(caplog)
    assert "the key is ***" in line.getMessage()
    assert "c4n4ry" not in str(vars(line))


@pytest.mark.parametrize("spec", SPECS, ids=names_of_specs)
@pytest.mark.parametrize(
    ("value", "pointer"),
    [
        ({"report": {"when": date(2026, 1, 1)}}, "/report/when"),
        ({"report": ["\x00"]}, "/report/0"),
        ({"report": {"a\x00": 1}}, "/report"),
        ({"report": 10**5000}, "/report"),
        ({"report": float("inf")}, "/report"),
        ({"report": {1: 1}}, "/report"),
        ({"report": {10**5000: 1}}, "/report"),
        ({"report": "\udfff"}, "/report"),
    ],
)
def test_a_result_that_is_not_json_is_an_error_that_names_its_place(
    worker_app: JobsApp, spec: Any, value: Any, pointer: str, caplog: Caplog
) -> None:
    async def give_async(_context: Any) -> Any:
        return value

    deeds["give"] = give_async if spec is atomic_samples.act_async else lambda _context: value
    with working(worker_app):
        task = _ended(spec.defer(deed="give"))

    (line,) = _lines(caplog)
    assert (task.status, task.error["code"]) == ("FAILED", "result_not_json")
    assert f" {pointer} " in task.error["message"]
    assert line.levelname == "ERROR"
    assert f" {pointer} " in line.getMessage()


def test_a_result_that_is_too_large_names_its_largest_key(
    worker_app: JobsApp, monkeypatch: MonkeyPatch, caplog: Caplog
) -> None:
    monkeypatch.setattr(settings, "JOBS_RESULT_MAX_BYTES", 100)
    deeds["give"] = lambda _context: {"small": "x", "large/one": "x" * 100, "other": "x" * 50}
    with working(worker_app):
        task = _ended(atomic_samples.act.defer(deed="give"))

    (line,) = _lines(caplog)
    assert task.error["code"] == "result_too_large"
    assert "most of them at /large~1one" in task.error["message"]
    assert (line.levelname, "/large~1one" in line.getMessage()) == ("ERROR", True)


def test_an_outcome_that_is_refused_names_what_the_database_refused(
    worker_app: JobsApp, caplog: Caplog
) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "ALTER TABLE pgjobs_task ADD CONSTRAINT no_42 CHECK (result ->> 'answer' <> '42')"
        )
    try:

        async def answer(_context: Any) -> Any:
            return {"answer": 42}

        deeds["answer"] = answer
        with working(worker_app):
            task = _ended(atomic_samples.act_async.defer(deed="answer"))
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE pgjobs_task DROP CONSTRAINT no_42")

    assert task.error["code"] == "outcome_not_storable"
    refused = [line for line in caplog.records if "cannot be stored" in line.getMessage()]
    assert [line.levelname for line in refused] == ["ERROR"]
    assert "constraint no_42 of pgjobs_task" in refused[0].getMessage()
    assert "answer" not in refused[0].getMessage()
