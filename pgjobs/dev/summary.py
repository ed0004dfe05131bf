"""The last words before a development session goes quiet: where to look and what to paste."""

import json
import shlex
from collections.abc import Iterator
from typing import Any

from pgjobs.dev.demo import status_path
from pgjobs.dev.project import DemoJob
from pgjobs.dev.superuser import Superuser

PAGES = (
    ("Home", "/"),
    ("Tasks", "/api/tasks/"),
    ("Admin", "/admin/"),
    ("Alive", "/livez"),
    ("Ready", "/readyz"),
)
NOT_OURS = "(the password you set)"


def summary(
    *,
    port: int,
    superuser: Superuser,
    token: str,
    shown: tuple[DemoJob, dict[str, Any]] | None = None,
) -> Iterator[str]:
    """Yield the URLs, the login, the API token, and lines for a shell that use it.

    `shown` is the job that was sent, and its task.
    """
    base = f"http://localhost:{port}"
    yield ""
    jobs = [("Jobs", shown[0].PATH)] if shown else []
    for name, path in (*PAGES, *jobs):
        yield f"{name:<7}{base}{path}"
    yield f"Login  {superuser.user.get_username()} / {superuser.password or NOT_OURS}"
    yield f"Token  {token}"
    yield ""
    curl = f"curl -s -H 'Authorization: Token {token}'"
    if shown:
        yield from _send_again(*shown, curl=curl, base=base)
    yield "# The tasks, newest first"
    yield f"{curl} {base}/api/tasks/"
    if shown:
        yield from _look_again(*shown, curl=curl, base=base)
    yield ""
    yield "Ctrl-C stops everything."


def _send_again(job: DemoJob, _task: dict[str, Any], *, curl: str, base: str) -> Iterator[str]:
    body = shlex.quote(json.dumps(job.new_body("Grace", "Hopper")))
    yield "# Send another job"
    yield f"{curl} -H 'Content-Type: application/json' -d {body} {base}{job.PATH}"


def _look_again(job: DemoJob, task: dict[str, Any], *, curl: str, base: str) -> Iterator[str]:
    yield "# The status of the job above"
    yield f"{curl} {base}{status_path(task)}"
    yield "# What it made: again a job, whose result holds it"
    yield f"{curl} {base}{job.made_path(task)}"
