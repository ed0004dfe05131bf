"""The state of the process: put back before other jobs begin; what resists is said once."""

import logging
import resource

import pytest

from pgjobs.worker.run import process_state
from pgjobs.worker.run.process_state import Kept, ProcessState

LIMIT = resource.RLIMIT_FSIZE


def test_a_limit_that_a_job_left_is_lifted_before_others_begin() -> None:
    before = resource.getrlimit(LIMIT)
    state = ProcessState()
    try:
        resource.setrlimit(LIMIT, (2**40, before[1]))
        state.put_back()

        assert resource.getrlimit(LIMIT) == before
    finally:
        resource.setrlimit(LIMIT, before)


def test_what_cannot_be_put_back_is_said_once_until_it_can(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now, resists = ["before"], True

    def write(value: str) -> None:
        if resists:
            raise OSError("it resists")
        now[0] = value

    monkeypatch.setattr(process_state, "_KEPT", (Kept("the thing", lambda: now[0], write),))
    state = ProcessState()
    for resists in (True, True, False, True, True):  # noqa: B007 # read by write()
        now[0] = "changed"
        state.put_back()

    said = [each.levelno for each in caplog.records if "the thing" in each.getMessage()]
    assert said == [logging.ERROR, logging.WARNING, logging.ERROR]
