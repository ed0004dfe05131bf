"""What tests of waiting and streaming share."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import advisory_locks
import job_samples
import pytest
from event_streams import Stream

from pgjobs.defer.bridge import Deferred, owned_by


@pytest.fixture
def token(admin: Any, token_of: Callable[[Any], str]) -> str:
    return token_of(admin)


@pytest.fixture
def aside() -> Iterator[ThreadPoolExecutor]:
    """Does beside the test what waits."""
    with ThreadPoolExecutor(max_workers=40) as executor:
        yield executor


@pytest.fixture
def held(transactional_db: None) -> Iterator[None]:
    """Let every run of `hold` wait, until `let_go` or the test's end."""
    advisory_locks.hold()
    yield
    advisory_locks.let_go()


@pytest.fixture
def hold_one(admin: Any) -> Callable[[], Deferred]:
    """Defers a job that reports 40 % and waits for the lock."""

    def hold() -> Deferred:
        with owned_by(admin.pk):
            return job_samples.hold.defer(key=advisory_locks.KEY)

    return hold


@pytest.fixture
def open_stream() -> Iterator[Callable[..., Stream]]:
    """Open streams that do not outlive the test."""
    streams: list[Stream] = []

    def open_one(url: str, *, token: str = "", **headers: str) -> Stream:
        streams.append(Stream(url, token=token, **headers))
        return streams[-1]

    yield open_one
    for stream in streams:
        stream.close()
