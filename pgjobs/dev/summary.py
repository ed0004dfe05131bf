"""The last words before a development session goes quiet: where to look and what to paste."""

import json
import shlex
from collections.abc import Iterator
from typing import Any

from pgjobs.dev import project
from pgjobs.dev.demo import status_path
from pgjobs.dev.project import DemoJob

PAGES = (
    ("Home", "/"),
    ("API", "/api/docs/"),
    ("Tasks", "/api/tasks/"),
    ("Admin", "/admin/"),
    ("Ready", "/readyz"),
)
LAST_LINE = "Ctrl-C stops everything."
CURL = 'curl -s -H "Authorization: Token $TOKEN"'


def pages(port: int) -> Iterator[str]:
    """Yield the URLs of those pages that the project has; at its root Django shows one."""
    for name, path in PAGES:
        if path == "/" or project.has_page(path):
            yield f"{name:<7}{_base(port)}{path}"


def how_to_go_on(
    *, port: int, login: str, token: str, job: DemoJob, task: dict[str, Any]
) -> Iterator[str]:
    """Yield the URLs, the login, and lines for a shell that use the API token.

    `task` is that of the job that was sent.
    """
    base = _base(port)
    body = shlex.quote(json.dumps(job.new_body("Grace", "Hopper")))
    yield from ["", *pages(port), f"Login  {login}", "", "# In a second shell:", f"TOKEN={token}"]
    yield "# Send another job"
    yield f"{CURL} -H 'Content-Type: application/json' -d {body} {base}{job.PATH}"
    yield "# The tasks, newest first"
    yield f"{CURL} {base}/api/tasks/"
    yield "# The status of the job above"
    yield f"{CURL} {base}{status_path(task)}"
    yield "# What it made: again a job, whose result holds it"
    yield f"{CURL} {base}{job.made_path(task)}"
    yield from ["", LAST_LINE]


def _base(port: int) -> str:
    return f"http://localhost:{port}"
