"""The end of a run about which nothing else can be said.

Shares no code with what makes other outcomes, so that it cannot fail with them: constants, and what
the engine itself knows of the run. No translation, no text of an error, no policy.
"""

from typing import Any

from pgjobs.contract.lengths import MAX_WORKER_NAME_LENGTH
from pgjobs.worker.run.run import Run

UNEXPECTED_ERROR = "unexpected_error"
OUTCOME_NOT_STORABLE = "outcome_not_storable"

_MESSAGES = {
    UNEXPECTED_ERROR: "The task failed with an unexpected error.",
    OUTCOME_NOT_STORABLE: "What the task came to cannot be stored. The worker's log says why.",
}


def without_words(run: Run, code: str, *, deletes: bool) -> dict[str, Any]:
    """Return the outcome: FAILED, with one of the codes above; `deletes`: its job's row goes."""
    message = _MESSAGES[code]
    return {
        "job_id": run.job.id,
        "worker_id": run.worker_id,
        "run_number": run.job.attempts + 1,
        "task_id": run.task_id,
        "status": "failed",
        "delete_job": deletes,
        "end_status": "FAILED",
        "error": f'{{"code": "{code}", "message": "{message}"}}',
        "started_at": run.job.started_at.isoformat(),
        "attempt_kind": "failed",
        "worker_name": run.worker_name[:MAX_WORKER_NAME_LENGTH],
        "error_class": "",
        "message": message,
        "traceback": "",
    }
