"""What becomes of a run: the row of complete.sql that says so, and its log line."""

import asyncio
import json
import logging
import time
from typing import Any

from django.utils.translation import gettext as _
from procrastinate.exceptions import JobAborted

from pgjobs.contract.context import Discard, Snooze
from pgjobs.contract.json_values import storable_text
from pgjobs.contract.lengths import MAX_WORKER_NAME_LENGTH
from pgjobs.contract.retries import SoftTimeLimitError
from pgjobs.database.backoff import jittered
from pgjobs.errors import AppError
from pgjobs.tracking.models import AttemptKind
from pgjobs.tracking.states import EndCode, JobStatus, TaskStatus, error_of_end
from pgjobs.worker.errors import (
    ArgumentsDoNotFitError,
    HardTimeLimitError,
    LockWaitError,
    OwnerNotAskedError,
    PermissionDeniedError,
    ResultNotJSONError,
    ResultTooLargeError,
)
from pgjobs.worker.logs import engine_logger
from pgjobs.worker.run.run import Run
from pgjobs.worker.run.words import Words, class_name, is_a, words_of

logger = engine_logger(__name__)

MAX_CODE_LENGTH = 64
MAX_LOGGED_TRACEBACK_LENGTH = 16_000
# Ours, and yet mistakes of the task: what it was given or gives cannot be kept.
_NOT_KEPT = (ArgumentsDoNotFitError, ResultNotJSONError, ResultTooLargeError)

# Whatever the retry policy says.
_FINAL = (HardTimeLimitError, PermissionDeniedError)

type Outcome = dict[str, Any]

DONE: Outcome = {"status": JobStatus.SUCCEEDED, "end_status": TaskStatus.DONE}


def outcome_of(run: Run, *, delete: str = "never") -> Outcome:
    """Return how the run leaves `doing`, as complete.sql takes it.

    `delete`: whose job rows go with the end: never, successful, always.
    """
    error = run.error
    if error is None and not run.stop_seen:
        return done(run, delete=delete)
    if back := _way_back(run, error):
        outcome = {**_left(run, JobStatus.TODO), **back}
    elif error is None or is_a(error, JobAborted) or (_is_cancel(error) and run.stop_asked):
        outcome = cancelled(_left(run, JobStatus.ABORTED), EndCode.CANCELLED)
    elif is_a(error, *_FINAL):
        outcome = _failed(run, error)
    elif retry := _retry_of(run, error):
        outcome = {**_left(run, JobStatus.TODO), **retry, **_attempt(run, error)}
    elif _is_cancel(error):  # by the function itself
        outcome = cancelled(_left(run, JobStatus.ABORTED), EndCode.CANCELLED)
    else:
        outcome = _failed(run, error)
    outcome["delete_job"] = _goes(outcome, delete)
    return outcome


def done(run: Run, *, delete: str = "never") -> Outcome:
    """Return the end of a run whose function returned."""
    outcome = _done(run)
    outcome["delete_job"] = _goes(outcome, delete)
    return outcome


def failed(run: Run, *, delete: str = "never") -> Outcome:
    """Return the end of a run whose error is final."""
    outcome = _failed(run, run.error or RuntimeError("a run without an error failed"))
    outcome["delete_job"] = _goes(outcome, delete)
    return outcome


def never_begun(run: Run) -> Outcome:
    """Return that a job waits again whose function was not called: it spends nothing."""
    return {**_left(run, JobStatus.TODO), **_soon(), "delete_job": False}


def cancelled(outcome: Outcome, code: str) -> Outcome:
    """Return `outcome` as CANCELLED: `cancelled` by request, `superseded` by another job."""
    return {
        **outcome,
        "status": JobStatus.ABORTED,
        "end_status": TaskStatus.CANCELLED,
        "error": json.dumps(error_of_end(code)),
    }


def log_end(run: Run, outcome: Outcome) -> None:
    """Write the one line about the end of a run, with ids and without arguments."""
    if not logger.isEnabledFor(logging.INFO) and outcome["status"] == JobStatus.SUCCEEDED:
        return
    run.context().run(_log_end, run, outcome, time.monotonic() - run.begun)


def _log_end(run: Run, outcome: Outcome, seconds: float) -> None:
    if outcome["status"] == JobStatus.TODO:
        _log_next_run(run, outcome, seconds)
    elif outcome["status"] == JobStatus.FAILED:
        _log_failure(run, outcome, seconds)
    else:
        ended_as = TaskStatus(outcome["end_status"]).label.lower()
        if run.words:  # asked to stop, it runs no more; its last run failed all the same
            said = "job %s after %.3f s; its run failed: %s"
            logger.warning(said, ended_as, seconds, _said(run.words), extra=_frames(run.words))
        else:
            logger.info("job %s after %.3f s", ended_as, seconds)


def _log_next_run(run: Run, outcome: Outcome, seconds: float) -> None:
    delay = outcome.get("retry_in") or 0.0
    if run.words:
        said = "job failed and runs again in %.1f s: %s"
        logger.warning(said, delay, _said(run.words), extra=_frames(run.words))
    elif run.hand_back:
        logger.warning("job failed and runs again in %.1f s: handed back", delay)
    elif is_a(run.error, LockWaitError):
        logger.warning("job runs again in %.1f s: it waited for a lock that another holds", delay)
    elif not is_a(run.error, Snooze):
        logger.warning("job never began: its next run is in %.1f s", delay)
    else:
        until = outcome["retry_at"] or f"{delay:.1f} s from now"
        logger.info("job snoozed after %.3f s, until %s", seconds, until)


def _log_failure(run: Run, outcome: Outcome, seconds: float) -> None:
    words = run.words
    if words is None or not outcome["error_class"]:  # a line before this one says why
        code = json.loads(outcome["error"])["code"]
        logger.error("job failed after %.3f s, without words: %s", seconds, code)
        return
    expected = is_a(run.error, AppError) and not is_a(run.error, *_NOT_KEPT)
    level = logging.WARNING if expected else logging.ERROR
    logger.log(level, "job failed after %.3f s: %s", seconds, _said(words), extra=_frames(words))


def _said(words: Words) -> str:
    return f"{words.error_class}: {words.message}"


def _frames(words: Words) -> dict[str, str]:
    cut = storable_text(words.traceback, max_length=MAX_LOGGED_TRACEBACK_LENGTH)
    return {"exception": cut} if cut else {}


def _failed(run: Run, error: BaseException) -> Outcome:
    attempt = _attempt(run, error)
    public = {"code": _code(error), "message": attempt["message"]}
    return {
        **_left(run, JobStatus.FAILED),
        "end_status": TaskStatus.FAILED,
        "error": json.dumps(public),
        **attempt,
    }


def _done(run: Run) -> Outcome:
    result = _shown_result(run)
    outcome = {
        **_left(run, JobStatus.SUCCEEDED),
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


def _left(run: Run, status: JobStatus) -> Outcome:
    return {
        "job_id": run.job.id,
        "worker_id": run.worker_id,
        "run_number": run.number,
        "task_id": run.task_id,
        "status": status,
        "progress": run.percent,
        "progress_message": run.progress_message if run.percent is not None else None,
        "started_at": run.job.started_at.isoformat(),
    }


def _way_back(run: Run, error: Any) -> Outcome | None:
    """Return what is said of a run that failed by nothing of its own, None for any other."""
    if run.hand_back:
        stopped = _("Its worker stopped before this run had ended.")
        return _handed_back(run, run.hand_back, "WorkerStopped", stopped)
    if is_a(error, LockWaitError):
        waited = _handed_back(run, AttemptKind.HANDED_BACK, "LockWait", error.message)
        return {**waited, "retry_in": 1.0 + jittered(4.0)}
    if is_a(error, OwnerNotAskedError):
        return _soon()
    return _when(error) if is_a(error, Snooze) else None


def _soon() -> Outcome:
    return {"retry_in": 1.0 + jittered(2.0)}


def _when(snooze: Any) -> Outcome:
    return {
        "retry_in": snooze.seconds,
        "retry_at": snooze.until.isoformat() if snooze.until else None,
    }


def _retry_of(run: Run, error: BaseException) -> Outcome | None:
    retry = None if is_a(error, Discard) else run.work.retry(run, error)
    if retry is None:
        return None
    return {
        "retry_in": retry.seconds,
        "priority": retry.priority,
        "queue_name": retry.queue_name,
        "lock": retry.lock,
    }


def _is_cancel(error: BaseException) -> bool:
    return is_a(error, asyncio.CancelledError) and not is_a(error, SoftTimeLimitError)


def _goes(outcome: Outcome, delete: str) -> bool:
    if outcome["status"] == JobStatus.TODO:
        return False
    return delete == "always" or (
        delete == "successful" and outcome["status"] == JobStatus.SUCCEEDED
    )


def _attempt(run: Run, error: BaseException) -> Outcome:
    words = run.words = words_of(run, error)
    return {
        "attempt_kind": AttemptKind.FAILED,
        "worker_name": storable_text(run.worker_name, max_length=MAX_WORKER_NAME_LENGTH),
        "error_class": words.error_class,
        "message": _public_message(error, words),
        "traceback": words.traceback,
    }


def _code(error: Any) -> str:
    if not is_a(error, AppError):
        return EndCode.UNEXPECTED_ERROR
    return storable_text(str(error.code), max_length=MAX_CODE_LENGTH)


def _public_message(error: BaseException, words: Words) -> str:
    """Return what a client may read: our own errors speak, others could tell secrets."""
    if is_a(error, AppError):
        return words.message
    said = _("The task failed with an unexpected error ({kind}).")
    return said.format(kind=class_name(error).rpartition(".")[2])


def _handed_back(run: Run, kind: AttemptKind, error_class: str, message: str) -> Outcome:
    return {
        "attempt_kind": kind,
        "worker_name": storable_text(run.worker_name, max_length=MAX_WORKER_NAME_LENGTH),
        "error_class": error_class,
        "message": message,
        "traceback": "",
    }
