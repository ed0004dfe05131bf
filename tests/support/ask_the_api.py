"""Asks the API of a fresh project, by `manage.py shell -c`: prints what is answered, as JSON."""

import json
import uuid
from contextlib import suppress
from typing import Any

from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import NoReverseMatch, reverse
from orders.tasks import add  # type: ignore[import-not-found] # of that project

from pgjobs import owned_by
from pgjobs.access.audit.models import Entry
from pgjobs.tracking.models import Task

API = reverse("pgjobs:task-list").removesuffix("tasks/")
client = Client()
user = get_user_model().objects.create_user("ada", password="a long password")
with owned_by(user.pk):
    task_id = add.defer(left=2, right=3).task_id
who: dict[str, Any] = {}


def ask(method: str, path: str, body: Any = None, **options: Any) -> dict[str, Any]:
    options = {"content_type": "application/json", **options} if body is not None else options
    data = () if body is None else (json.dumps(body),)
    answer = getattr(client, method)(path, *data, **options)
    return {
        "status": answer.status_code,
        "type": answer.headers["Content-Type"],
        "request": answer.headers.get("X-Correlation-ID"),
        "body": answer.content.decode(),
    }


credentials = {"username": "ada", "password": "a long password", "name": "a test"}
answers: dict[str, Any] = {"made": ask("post", f"{API}tokens/", credentials)}
token = json.loads(answers["made"]["body"])["token"]
who = {"headers": {"Authorization": f"Token {token}"}}
answers |= {
    "stranger": ask("get", f"{API}tasks/"),
    "missing": ask("get", f"{API}tasks/{uuid.uuid4()}/", **who),
    "listed": ask("get", f"{API}tasks/", **who),
    "status": ask("get", f"{API}tasks/{task_id}/status/", **who),
    "schema": ask("get", f"{API}schema/"),
    "without a slash": ask("post", f"{API}tasks/{task_id}/cancel", {}, **who),
    "cancelled again": ask("post", f"{API}tasks/{task_id}/cancel/", {}, **who),
    "who cancelled": list(
        Entry.objects.filter(action="task_cancelled").values_list("actor_name", flat=True)
    ),
}
wrong = {**credentials, "password": "wrong"}
answers["guessed"] = [ask("post", f"{API}tokens/", wrong)["status"] for _ in range(11)]
with suppress(NoReverseMatch):  # a project without a view of its own
    door = reverse("sums")
    answers |= {
        "accepted": ask("post", door, {"left": 1, "right": 2}, **who),
        "refused": ask("post", door, {"left": "x", "right": 2}, **who),
        "not let in": ask("post", door, {"left": 1, "right": 2}),
        "of the project": ask("get", door, **who),
    }
answers["tasks"] = Task.objects.count()
print(json.dumps(answers))
