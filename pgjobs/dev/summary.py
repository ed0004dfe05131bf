"""The last words before a development session goes quiet: where to look and what to paste."""

import json
import shlex
from collections.abc import Iterator
from typing import Any

from pgjobs.dev import example
from pgjobs.dev.demo import status_path
from pgjobs.dev.superuser import Superuser

PAGES = (
    ("Home", "/"),
    ("Jobs", example.PATH),
    ("Tasks", "/api/tasks/"),
    ("Admin", "/admin/"),
    ("Alive", "/livez"),
    ("Ready", "/readyz"),
)
NOT_OURS = "(the password you set)"


def summary(*, port: int, superuser: Superuser, token: str, task: dict[str, Any]) -> Iterator[str]:
    """Yield the URLs, the login, the API token, and lines for a shell that use it."""
    base = f"http://localhost:{port}"
    yield ""
    for name, path in PAGES:
        yield f"{name:<7}{base}{path}"
    yield f"Login  {superuser.user.get_username()} / {superuser.password or NOT_OURS}"
    yield f"Token  {token}"
    yield ""
    curl = f"curl -s -H 'Authorization: Token {token}'"
    body = shlex.quote(json.dumps(example.new_body("Grace", "Hopper")))
    yield "# Send another job"
    yield f"{curl} -H 'Content-Type: application/json' -d {body} {base}{example.PATH}"
    yield "# The tasks, newest first"
    yield f"{curl} {base}/api/tasks/"
    yield "# The status of the job above"
    yield f"{curl} {base}{status_path(task)}"
    yield "# What it made: again a job, whose result holds it"
    yield f"{curl} {base}{example.made_path(task)}"
    yield ""
    yield "Ctrl-C stops everything."
