"""What becomes of a run: the row of complete.sql that says so, and its log line."""

import asyncio
import json
import logging
import time
import traceback
from typing import Any

from django.utils.translation import gettext as _
from procrastinate.exceptions import JobAborted

from myapp.errors import AppError
from myapp.jobs.json_values import storable_text
from myapp.jobs.retries import SoftTimeLimitError
from myapp.jobs.tracking.models import AttemptKind
from myapp.jobs.tracking.states import EndCode, TaskStatus, error_of_end
from tasks.engine.context import Discard, Snooze
from tasks.engine.errors import HardTimeLimitError, OutcomeNotStorableError
from tasks.engine.run import Run

logger = logging.getLogger(__name__)

MAX_MESSAGE_LENGTH = 2_000
MAX_TRACEBACK_LENGTH = 64_000

type Outcome = dict[str, Any]

DONE: Outcome = {"status": "succeeded", "end_status": TaskStatus.DONE}


def outcome_of(run: Run, *, delete: str = "never") -> Outcome:
    """Return how the run leaves `doing`, as complete.sql takes it.

    `delete`: whose job rows go with the end: never, successful, always.
    """
    error = run.error
    if error is None and not run.stop_seen:
        return done(run, delete=delete)
    if run.hand_back:
        outcome = {**_left(run, "todo"), **_handed_back(run)}
    elif isinstance(error, Snooze):
        outcome = {**_left(run, "todo"), **_when(error)}
    elif error is None or isinstance(error, JobAborted) or (_is_cancel(error) and run.stop_asked):
        outcome = cancelled(_left(run, "aborted"), EndCode.CANCELLED)
    elif isinstance(error, HardTimeLimitError):
        outcome = failed(run, error)
    elif retry := _retry_of(run, error):
        outcome = {**_left(run, "todo"), **retry, **_attempt(run, error)}
    elif _is_cancel(error):  # by the function itself
        outcome = cancelled(_left(run, "aborted"), EndCode.CANCELLED)
    else:
        outcome = failed(run, error)
    outcome["delete_job"] = _goes(outcome, delete)
    return outcome


def done(run: Run, *, delete: str = "never") -> Outcome:
    """Return the end of a run whose function returned."""
    outcome = _done(run)
    outcome["delete_job"] = _goes(outcome, delete)
    return outcome


def failed(run: Run, error: BaseException) -> Outcome:
    """Return the end of a run whose error is final."""
    return {
        **_left(run, "failed"),
        "end_status": TaskStatus.FAILED,
        "error": json.dumps(_public_error(run, error)),
        **_attempt(run, error),
    }


def untold(run: Run, error: BaseException, *, delete: str) -> Outcome:
    """Return the end of a run about which its own policy or error could not be asked."""
    outcome = failed(run, error)
    return {**outcome, "delete_job": _goes(outcome, delete)}


def unstorable(run: Run) -> Outcome:
    """Return the end of a run whose outcome the database refused: final, and free of the cause."""
    error = OutcomeNotStorableError()
    return {**failed(run, error), "progress_message": None, "traceback": "", "delete_job": False}


def cancelled(outcome: Outcome, code: str) -> Outcome:
    """Return `outcome` as CANCELLED: `cancelled` by request, `superseded` by another job."""
    return {
        **outcome,
        "status": "aborted",
        "end_status": TaskStatus.CANCELLED,
        "error": json.dumps(error_of_end(code)),
    }


def log_end(run: Run, outcome: Outcome) -> None:
    """Write the one line about the end of a run, with ids and without arguments."""
    if not logger.isEnabledFor(logging.INFO) and outcome["status"] == "succeeded":
        return
    run.context().run(_log_end, run, outcome, time.monotonic() - run.begun)


def _log_end(run: Run, outcome: Outcome, seconds: float) -> None:
    error = run.error
    if outcome["status"] == "todo" and isinstance(error, Snooze):
        until = outcome["retry_at"] or f"{outcome['retry_in']:.1f} s from now"
        logger.info("job snoozed after %.3f s, until %s", seconds, until)
    elif outcome["status"] == "todo":
        kind = "handed back" if run.hand_back else type(error).__qualname__
        delay = outcome.get("retry_in") or 0.0
        logger.warning("job failed and runs again in %.1f s: %s", delay, kind)
    elif outcome["status"] == "failed" and not isinstance(error, AppError):
        logger.error("job failed after %.3f s", seconds, exc_info=error)
    else:
        # The code, not the message: that may quote an argument.
        code = f": {error.code}" if isinstance(error, AppError) else ""
        ended_as = TaskStatus(outcome["end_status"]).label.lower()
        logger.info("job %s after %.3f s%s", ended_as, seconds, code)


def _done(run: Run) -> Outcome:
    result = _shown_result(run)
    outcome = {
        **_left(run, "succeeded"),
        **DONE,
        "result": result,
        "progress": 100,
    }
    if result is not None:
        outcome["related_id"] = run.work.related_id(result)
    return outcome


def _shown_result(run: Run) -> str | None:
    if run.result is None or not run.secrets:
        return run.result
    return json.dumps(run.secrets.hide_in(json.loads(run.result)))


def _left(run: Run, status: str) -> Outcome:
    return {
        "job_id": run.job.id,
        "worker_id": run.worker_id,
        "run_number": run.number,
        "status": status,
        "progress": run.percent,
        "progress_message": run.progress_message if run.percent is not None else None,
        "started_at": run.job.started_at.isoformat(),
    }


def _when(snooze: Snooze) -> Outcome:
    return {
        "retry_in": snooze.seconds,
        "retry_at": snooze.until.isoformat() if snooze.until else None,
    }


def _retry_of(run: Run, error: BaseException) -> Outcome | None:
    retry = None if isinstance(error, Discard) else run.work.retry(run, error)
    if retry is None:
        return None
    return {
        "retry_in": retry.seconds,
        "priority": retry.priority,
        "queue_name": retry.queue_name,
        "lock": retry.lock,
    }


def _is_cancel(error: BaseException) -> bool:
    return isinstance(error, asyncio.CancelledError) and not isinstance(error, SoftTimeLimitError)


def _goes(outcome: Outcome, delete: str) -> bool:
    if outcome["status"] == "todo":
        return False
    return delete == "always" or (delete == "successful" and outcome["status"] == "succeeded")


def _public_error(run: Run, error: BaseException) -> dict[str, str]:
    """Return what a client may read: our own errors speak, others could tell secrets."""
    if isinstance(error, AppError):
        return {"code": error.code, "message": _message_of(run, error)}
    return {
        "code": EndCode.UNEXPECTED_ERROR,
        "message": _("The task failed with an unexpected error ({kind}).").format(
            kind=type(error).__name__
        ),
    }


def _attempt(run: Run, error: BaseException) -> Outcome:
    lines = traceback.format_exception(error)
    return {
        "attempt_kind": AttemptKind.FAILED,
        "worker_name": storable_text(run.worker_name, max_length=200),
        "error_class": storable_text(type(error).__qualname__, max_length=200),
        "message": _public_error(run, error)["message"],
        "traceback": storable_text(run.hide("".join(lines)), max_length=MAX_TRACEBACK_LENGTH),
    }


def _handed_back(run: Run) -> Outcome:
    return {
        "attempt_kind": AttemptKind.HANDED_BACK,
        "worker_name": storable_text(run.worker_name, max_length=200),
        "error_class": "WorkerStopped",
        "message": _("Its worker stopped before this run had ended."),
        "traceback": "",
    }


def _message_of(run: Run, error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 # a task's own __str__ may do anything
        text = f"({type(error).__name__} cannot say what happened)"
    return storable_text(run.hide(text), max_length=MAX_MESSAGE_LENGTH)
