"""Lets statements that bring secrets fail in the ways that they can; run as a program.

It says of each how it failed. DATABASE_URL may lead through a pooler, `DIRECT_URL` does not. A
domain adds its own ways by a module that it names as the argument: `acts()`, and the `TABLES` to
lock.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from typing import Any

import django

django.setup()

import canary_samples  # noqa: E402 # after the registry is ready
import psycopg  # noqa: E402
from django.db import DatabaseError  # noqa: E402

SECRETS: dict[str, Any] = {"way": "return", "password": "c4n4ry-pass", "card": "c4n4ry-card"}
TABLES = "pgjobs_task, procrastinate_jobs"


def acts() -> dict[str, Callable[[], Any]]:
    """Return the ways of the platform: what begins with "locked" is done while TABLES are."""
    leak = canary_samples.leak
    return {
        "locked, deferred": lambda: leak.defer(**SECRETS),
        "locked, many deferred": lambda: leak.defer_many([SECRETS, SECRETS]),
    }


def main(ways: Any) -> None:
    """Go through all of them."""
    for name, act in ways.acts().items():
        with _locked(ways.TABLES) if name.startswith("locked") else nullcontext():
            try:
                act()
            except DatabaseError as error:
                print(f"{name}: {type(error).__name__}", flush=True)
            else:
                print(f"{name}: it did not fail", flush=True)


@contextmanager
def _locked(tables: str) -> Iterator[None]:
    with psycopg.connect(os.environ["DIRECT_URL"]) as other:
        other.execute(f"LOCK TABLE {tables} IN SHARE MODE")
        yield


if __name__ == "__main__":
    main(import_module(sys.argv[1]) if len(sys.argv) > 1 else sys.modules[__name__])
