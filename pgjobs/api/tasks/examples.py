"""Tasks as the API description shows them, one in each state."""

import json
from typing import Any

from drf_spectacular.utils import OpenApiExample

from pgjobs.tracking.models import AttemptKind
from pgjobs.tracking.states import FINAL, EndCode, TaskStatus

_ID = "01a1fbea-4e84-7475-81db-8e9e43d5d392"
_USER_ID = "861476ac-1d3b-4f7e-9d59-4c0f6a1b2c3d"
_ACCEPTED, _STARTED, _ENDED = (f"2026-11-21T02:23:{second}Z" for second in ("18.1", "18.2", "18.9"))
_MESSAGE = "Successfully created user grace"
_ERROR = {"code": "username_taken", "message": "The username grace is already taken."}
_CANCELLED = {"code": EndCode.CANCELLED, "message": "The task was cancelled."}

_ROW: dict[str, Any] = {
    "id": _ID,
    "status": TaskStatus.PENDING.value,
    "task_name": "create_user",
    "progress": 0,
    "related_table": "user",
    "related_id": None,
    "operation": "CREATE",
    "created_at": _ACCEPTED,
    "updated_at": _ACCEPTED,
}
_STATUS = {
    **_ROW,
    "input_data": {"username": "grace", "email": "grace@example.com"},
    "result": {"progress": 0},
}
_DETAIL = {
    **_STATUS,
    "progress_message": "",
    "error": None,
    "attempts": 0,
    "job_id": "4711",
    "queue": "users",
    "started_at": None,
    "finished_at": None,
    "correlation_id": "8f14e45f-ceea-467f-a0e6-6d8c2b9f3d11",
    "tags": ["import-2026-11"],
}
_STARTED_RUN = {"updated_at": _STARTED, "started_at": _STARTED}
_ENDED_RUN = {**_STARTED_RUN, "updated_at": _ENDED, "finished_at": _ENDED, "attempts": 1}

# What each state changes in the fields above.
_STATES: dict[TaskStatus, dict[str, Any]] = {
    TaskStatus.PENDING: {},
    TaskStatus.PROCESSING: {
        **_STARTED_RUN,
        "progress": 40,
        "progress_message": "Writing the user",
        "result": {"progress": 40},
    },
    TaskStatus.DONE: {
        **_ENDED_RUN,
        "progress": 100,
        "related_id": _USER_ID,
        "result": {"user_id": _USER_ID, "message": _MESSAGE, "success": True, "progress": 100},
    },
    TaskStatus.FAILED: {
        **_ENDED_RUN,
        "progress": 40,
        "result": {"success": False, "progress": 40, "error": _ERROR},
        "error": _ERROR,
    },
    TaskStatus.CANCELLED: {
        "updated_at": _ENDED,
        "finished_at": _ENDED,
        "result": {"success": False, "progress": 0, "error": _CANCELLED},
        "error": _CANCELLED,
    },
}


def row_examples() -> list[OpenApiExample]:
    """Return a row of the list in each state."""
    return _in_each_state(_ROW)


def status_examples(*states: TaskStatus) -> list[OpenApiExample]:
    """Return the answer that a client polls in each state, or in these."""
    names = {state.value for state in states or TaskStatus}
    return [example for example in _in_each_state(_STATUS) if example.name in names]


def status_example(state: TaskStatus, *, name: str = "", **fields: Any) -> OpenApiExample:
    """Return the same in one state, under a name of its own, with other values for some fields."""
    (example,) = status_examples(state)
    return OpenApiExample(name or state.value, value={**example.value, **fields})


def accepted_again_examples() -> list[OpenApiExample]:
    """Return the answer to a retry."""
    value = {
        "task_id": _ID,
        "message": f"Task {_ID} will run again",
        "status_endpoint": f"/api/tasks/{_ID}/status/",
    }
    return [OpenApiExample("Accepted", value=value)]


def event_examples() -> list[OpenApiExample]:
    """Return an event of a stream in each state."""
    return [
        OpenApiExample(
            example.name,
            value={
                "event": "result" if example.name in FINAL else "status",
                "id": f"{example.name}.20261121T022318900000.{example.value['progress']}",
                "data": json.dumps(example.value),
            },
        )
        for example in status_examples()
    ]


def attempt_examples() -> list[OpenApiExample]:
    """Return a run of each kind that came to no end."""
    run = {"number": 1, "started_at": _STARTED, "finished_at": _ENDED, "traceback": None}
    runs = {
        AttemptKind.FAILED: ("UsernameTakenError", _ERROR["message"]),
        AttemptKind.CRASHED: ("WorkerDied", "worker died while it ran this."),
        AttemptKind.HANDED_BACK: ("WorkerStopped", "Its worker stopped before this run had ended."),
    }
    return [
        OpenApiExample(
            kind.label,
            value={
                **run,
                "kind": kind.value,
                "worker": "worker",
                "error_class": error_class,
                "message": message,
            },
        )
        for kind, (error_class, message) in runs.items()
    ]


def detail_examples() -> list[OpenApiExample]:
    """Return everything about a task in each state."""
    return _in_each_state(_DETAIL)


def _in_each_state(fields: dict[str, Any]) -> list[OpenApiExample]:
    return [
        OpenApiExample(
            status.value,
            value={
                **fields,
                "status": status.value,
                **{name: value for name, value in changes.items() if name in fields},
            },
        )
        for status, changes in _STATES.items()
    ]
