"""A program that takes a key, defers a job under it, says so, and never commits."""

import signal
from collections.abc import Sequence
from uuid import UUID

from sample.tasks import count_parcels

import tasks  # noqa: F401 # sets Django up
from pgjobs.api.keys.services import KeyedRequest, once

REQUEST = KeyedRequest(caller="user:held", key="held", fingerprint=b"request")


def write() -> Sequence[UUID]:
    """Defer the job."""
    return [count_parcels.defer().task_id]


def _write_and_stay() -> Sequence[UUID]:
    task_ids = write()
    print("holds the key", flush=True)
    signal.pause()
    return task_ids


if __name__ == "__main__":
    once(REQUEST, _write_and_stay)
