"""Recycling: a worker counts what it did, and says when it was enough."""

from pathlib import Path
from typing import Any

import pytest

from pgjobs.worker.alive import recycling
from pgjobs.worker.alive.recycling import Recycling, resident_bytes

MEGABYTE = 1024 * 1024


def test_never_by_default() -> None:
    worn = Recycling()

    assert {worn.count_run() for _ in range(1000)} == {""}
    assert worn.of_memory() == ""


def test_after_so_many_runs_once(settings: Any) -> None:
    settings.JOBS_WORKER_MAX_JOBS = 2
    worn = Recycling()

    assert [worn.count_run() for _ in range(3)] == ["", "2 runs ended", ""]


def test_above_so_much_memory(settings: Any) -> None:
    settings.JOBS_WORKER_MAX_MEMORY_MB = resident_bytes() // MEGABYTE + 50
    worn = Recycling()
    assert worn.of_memory() == ""

    ballast = b"x" * (100 * MEGABYTE)

    assert "MB of memory" in worn.of_memory()
    del ballast
    assert worn.of_memory() == ""


def test_when_more_threads_are_lost_than_may_be() -> None:
    worn = Recycling()

    assert worn.of_lost(2) == ""
    assert worn.of_lost(3) == "3 threads are lost"


def test_where_memory_cannot_be_read_its_peak_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    now = resident_bytes()
    monkeypatch.setattr(recycling, "_STATM", Path("/nowhere"))

    assert resident_bytes() >= 0.5 * now
