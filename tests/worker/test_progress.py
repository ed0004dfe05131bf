"""Progress: reports of many runs, from many threads, written together."""

from types import SimpleNamespace
from typing import Any

from pgjobs.worker.run.progress import ProgressWriter


class TakenBack(dict[int, Any]):
    """Reports of which one is taken back between the count and the taking."""

    def __len__(self) -> int:
        return super().__len__() + 1


def test_a_report_that_its_run_takes_back_meanwhile_loses_no_other() -> None:
    run = SimpleNamespace(job=SimpleNamespace(id=1))
    writer = ProgressWriter()
    writer._unwritten = TakenBack({1: run})

    assert writer._taken() == [run]
    assert not writer._taken()
