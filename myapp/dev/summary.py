"""The last words before a development session goes quiet: where to look and what to paste."""

import json
import secrets
import shlex
from collections.abc import Iterator

from myapp.dev.superuser import Superuser

PAGES = (
    ("Home", "/"),
    ("Users", "/api/users/"),
    ("Tasks", "/api/tasks/"),
    ("Admin", "/admin/"),
    ("Alive", "/livez"),
    ("Ready", "/readyz"),
)
NOT_OURS = "(the password you set)"


def summary(
    *, port: int, superuser: Superuser, token: str, status_path: str, user_id: str
) -> Iterator[str]:
    """Yield the URLs, the login, the API token, and lines for a shell that use it."""
    base = f"http://localhost:{port}"
    yield ""
    for name, path in PAGES:
        yield f"{name:<7}{base}{path}"
    yield f"Login  {superuser.user.get_username()} / {superuser.password or NOT_OURS}"
    yield f"Token  {token}"
    yield ""
    curl = f"curl -s -H 'Authorization: Token {token}'"
    yield "# Create a user"
    yield f"{curl} -H 'Content-Type: application/json' -d {_new_user()} {base}/api/users/"
    yield "# The tasks, newest first"
    yield f"{curl} {base}/api/tasks/"
    yield "# The status of the job above"
    yield f"{curl} {base}{status_path}"
    yield "# The user it created: again a job, whose result holds the user"
    yield f"{curl} {base}/api/users/{user_id}/"
    yield ""
    yield "Ctrl-C stops everything."


def _new_user() -> str:
    username = f"grace-{secrets.token_hex(3)}"
    return shlex.quote(json.dumps({"username": username, "email": f"{username}@example.com"}))
