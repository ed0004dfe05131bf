"""The demo job: one real job, sent through the HTTP API and followed to its end.

The job is over within milliseconds. To let a person see it at work, the demo holds its last step up
from outside: it locks the table the job inserts into until the API has shown the progress. Nothing
in the product waits for anybody's eyes.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from django.db import OperationalError, connection, transaction

from pgjobs.dev.client import ApiClient
from pgjobs.dev.console import Console
from pgjobs.dev.errors import DemoFailedError, DemoUnfinishedError
from pgjobs.dev.project import DemoJob

# How long the job may take, the start of the worker included.
JOB_SECONDS = 20.0
# How long the job is held up at most for its progress to be seen.
HOLD_SECONDS = 5.0
LOCK_TIMEOUT_MS = 1_000
POLL_SECONDS = 0.25

RUNNING = "PROCESSING"
SUCCESSFUL = "DONE"
FINAL = frozenset({SUCCESSFUL, "FAILED", "CANCELLED"})


class Demo:
    """One job, from its POST to its result.

    `check` is called between two looks at the job; it may raise when a process died meanwhile.
    """

    def __init__(
        self, job: DemoJob, api: ApiClient, console: Console, *, check: Callable[[], None]
    ) -> None:
        self._job = job
        self._api = api
        self._console = console
        self._check = check
        self._task: dict[str, Any] = {}
        self._shown = ""
        self._sent_at = self._running_since = 0.0

    def run(self, *, start_worker: Callable[[], None]) -> dict[str, Any]:
        """Send the job and print its way and its result; return the task as the API shows it.

        The worker is started after the job was sent, so that PENDING is always seen.

        Raises:
            ApiRefusedError: the API answered otherwise than expected.
            DemoFailedError: it ended otherwise than DONE.
            DemoUnfinishedError: it did not end within 20 s.
        """
        with writes_held_up(self._job.held_up_table()):
            self._send()
            start_worker()
            self._follow(until=self._was_seen_running)
        self._follow(until=self._has_ended)
        self._show_result()
        return self._task

    def _send(self) -> None:
        body = self._job.new_body("Ada", "Lovelace")
        self._console.line(f"POST {self._job.PATH} {json.dumps(body)}")
        accepted = self._api.post(self._job.PATH, body)
        self._sent_at = time.monotonic()
        self._console.line(f"202 {accepted['message']}")
        self._look(accepted["status_endpoint"])

    def _follow(self, *, until: Callable[[], bool]) -> None:
        while not until():
            if self._age() > JOB_SECONDS:
                raise DemoUnfinishedError(seconds=JOB_SECONDS, status=self._task["status"])
            self._check()
            time.sleep(POLL_SECONDS)
            self._look(status_path(self._task))

    def _look(self, path: str) -> None:
        """Fetch the task; print its status and progress if they changed."""
        self._task = self._api.get(path)
        if self._task["status"] == RUNNING and not self._running_since:
            self._running_since = time.monotonic()
        seen = self._task["status"]
        if self._task["progress"]:
            seen += f" {self._task['progress']} %"
        if seen != self._shown:
            self._shown = seen
            self._console.line(f"  {seen:<16}+{self._age():.1f} s")

    def _was_seen_running(self) -> bool:
        if not self._running_since:
            return self._has_ended()
        seen_long_enough = time.monotonic() - self._running_since > HOLD_SECONDS
        return bool(self._task["progress"]) or seen_long_enough or self._has_ended()

    def _has_ended(self) -> bool:
        return self._task["status"] in FINAL

    def _age(self) -> float:
        return time.monotonic() - self._sent_at

    def _show_result(self) -> None:
        result = self._task["result"]
        if self._task["status"] != SUCCESSFUL:
            raise DemoFailedError(status=self._task["status"], error=json.dumps(result))
        self._console.line(f"  result: {json.dumps(result)}")


def status_path(task: dict[str, Any]) -> str:
    """Return where the API shows the status of `task`."""
    return f"/api/tasks/{task['id']}/status/"


@contextmanager
def writes_held_up(table: str) -> Iterator[None]:
    """Let nobody write to the table while the `with` block runs; reading goes on."""
    with transaction.atomic():
        # Somebody else at work on the table for long: then the job runs without being held up.
        with suppress(OperationalError), transaction.atomic():
            _lock_out_writes(table)
        yield


def _lock_out_writes(table: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
        name = connection.ops.quote_name(table)
        cursor.execute(f"LOCK TABLE {name} IN SHARE ROW EXCLUSIVE MODE")
