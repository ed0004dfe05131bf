"""What visits to fresh projects have in common; copied there, and run by `manage.py shell`."""

import json
import traceback
from collections.abc import Callable, Iterable
from io import StringIO
from typing import Any

from django.core.management import call_command
from django.test import Client

JSON = "application/json"


class Caller(Client):
    """Speaks JSON to the API, with a user's token."""

    def __init__(self, token: str) -> None:
        super().__init__(headers={"Authorization": f"Token {token}"})

    def send(self, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Return the status and the body of an answer to a POST, or to a GET without a body."""
        if body is None:
            answer = self.get(path, headers=headers)
        else:
            answer = self.post(path, json.dumps(body), content_type=JSON, headers=headers)
        return answer.status_code, json.loads(answer.content or "null")


def caller(user: Any) -> Caller:
    """Return a client with a new token of a user."""
    printed = StringIO()
    call_command("api_token", user.get_username(), stdout=printed)
    return Caller(printed.getvalue().strip())


def tell(steps: Iterable[Callable[[], None]]) -> None:
    """Take each step, and print what failed, by its name, as JSON on one line."""
    failed = {}
    for step in steps:
        try:
            step()
        except Exception:  # noqa: BLE001 # all of them are told at once
            failed[step.__name__] = traceback.format_exc()[-1500:]
    print(json.dumps(failed))
