"""Records carry the ids of a run, whoever makes them."""

import contextvars
import logging
from collections.abc import Iterator

import pytest

from pgjobs.observe.correlation import bind_run
from pgjobs.observe.records import CarryingFactory, carry_ids


@pytest.fixture(autouse=True)
def _factory() -> Iterator[None]:
    """Put back the factory of records."""
    before = logging.getLogRecordFactory()
    yield
    logging.setLogRecordFactory(before)


def test_records_of_a_factory_of_the_project_s_own_carry_them() -> None:
    class Theirs(logging.LogRecord):
        """Of a project."""

    def make() -> logging.LogRecord:
        bind_run(task_id="t-1", job_id=7, task_name="add", attempt=1)
        return logging.getLogger("a.project").makeRecord(
            "a.project", logging.INFO, "file.py", 1, "a line", (), None
        )

    logging.setLogRecordFactory(Theirs)
    carry_ids()
    record = contextvars.copy_context().run(make)

    assert isinstance(record, Theirs)
    assert (
        logging.Formatter("%(pgjobs_job_id)s%(pgjobs_run)s").format(record).startswith("7 (task_")
    )


def test_to_carry_them_twice_is_to_carry_them_once() -> None:
    carry_ids()
    factory = logging.getLogRecordFactory()
    carry_ids()

    assert isinstance(factory, CarryingFactory)
    assert logging.getLogRecordFactory() is factory
