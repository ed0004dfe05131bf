"""Lets statements that bring secrets fail in the ways that they can; run as a program.

It says of each how it failed. DATABASE_URL may lead through a pooler, `DIRECT_URL` does not.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import django

django.setup()

import canary_samples  # noqa: E402 # after the registry is ready
import psycopg  # noqa: E402
from django.contrib.auth import get_user_model  # noqa: E402
from django.db import DatabaseError  # noqa: E402

from myapp.users.accounts import activate  # noqa: E402

SECRETS: dict[str, Any] = {"way": "return", "password": "c4n4ry-pass", "card": "c4n4ry-card"}
HASH = "pbkdf2_sha256$1$c4n4ry$c4n4ryc4n4ryc4n4ryc4n4ryc4n4ryc4n4ryc4n="
TABLES = "users_user, pgjobs_task, procrastinate_jobs"


def main() -> None:
    """Go through all of them."""
    for name, act in _acts().items():
        with _locked() if name.startswith("locked") else nullcontext():
            try:
                act()
            except DatabaseError as error:
                print(f"{name}: {type(error).__name__}", flush=True)
            else:
                print(f"{name}: it did not fail", flush=True)


def _acts() -> dict[str, Callable[[], Any]]:
    users, leak = get_user_model(), canary_samples.leak
    ada, eve = (users(username=name, email=f"{name}@example.org") for name in ("ada", "eve"))
    for user in (ada, eve, _applicant()):
        user.save()

    def save(user: Any, *, only: list[str] | None = None, **changes: Any) -> None:
        for name, value in {"password": HASH, **changes}.items():
            setattr(user, name, value)
        user.save(update_fields=only)

    return {
        "taken by another, new": lambda: save(users(email="new@example.org"), username="ADA"),
        "taken by another, changed": lambda: save(eve, username="Ada"),
        "locked, new": lambda: save(users(username="new", email="new@example.org")),
        "locked, changed": lambda: save(eve, username="eve", first_name="Eve"),
        "locked, activated": lambda: activate(_applicant(), password="correct horse battery"),
        "locked, password": lambda: save(ada, only=["password"]),
        "locked, deferred": lambda: leak.defer(**SECRETS),
        "locked, many deferred": lambda: leak.defer_many([SECRETS, SECRETS]),
    }


def _applicant() -> Any:
    users = get_user_model().objects
    return users.get_or_create(username="mia", email="mia@example.org", is_active=False)[0]


@contextmanager
def _locked() -> Iterator[None]:
    with psycopg.connect(os.environ["DIRECT_URL"]) as other:
        other.execute(f"LOCK TABLE {TABLES} IN SHARE MODE")
        yield


if __name__ == "__main__":
    main()
