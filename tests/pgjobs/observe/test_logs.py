"""Log lines: ids on each, arguments on none."""

import contextvars
import json
import logging
import re
from typing import Any

import pytest
import structlog

from pgjobs.observe.correlation import bind_run, correlated
from pgjobs.observe.logs import NoJobArguments, formatter
from pgjobs.observe.records import FORMAT


def _record(name: str = "someone.elses.library", **extra: object) -> logging.LogRecord:
    record = logging.LogRecord(name, logging.INFO, "file.py", 1, "a %s line", ("plain",), None)
    record.__dict__.update(extra)
    return record


def test_every_line_carries_what_is_bound_and_the_correlation_id() -> None:
    def write() -> Any:
        bind_run(job_id=7, attempt=1)
        with correlated("c-1"), structlog.contextvars.bound_contextvars(tenant="t"):
            return json.loads(formatter("json").format(_record()))

    line = contextvars.copy_context().run(write)

    assert (line["event"], line["tenant"]) == ("a plain line", "t")
    assert (line["correlation_id"], line["job_id"], line["attempt"]) == ("c-1", 7, 1)
    assert (line["level"], line["logger"]) == ("info", "someone.elses.library")
    assert line["timestamp"].endswith("Z")


def test_a_format_of_the_project_s_own_may_name_the_ids() -> None:
    def write() -> str:
        bind_run(task_id="t-1", job_id=7, task_name="add", attempt=1)
        with correlated("c-1"):
            return logging.Formatter(FORMAT).format(_made("in a run"))

    line = contextvars.copy_context().run(write)

    assert (
        "a line in a run (task_id=t-1 job_id=7 task_name=add attempt=1 correlation_id=c-1)" in line
    )
    assert logging.Formatter(FORMAT).format(_made("outside")).endswith("a line outside")
    ids = logging.Formatter("%(pgjobs_task_id)s %(pgjobs_attempt)s")
    assert ids.format(_made("")) == "None None"


def test_whoever_logs_may_name_what_they_add_as_the_ids_are_named() -> None:
    words = ("task_id", "job_id", "task_name", "attempt", "correlation_id", "run")

    record = _made("with more", **dict.fromkeys(words, "theirs"))

    assert {getattr(record, name) for name in words} == {"theirs"}


def _made(words: str, **extra: object) -> logging.LogRecord:
    return logging.getLogger("a.project").makeRecord(
        "a.project", logging.INFO, "file.py", 1, "a line %s", (words,), None, extra=extra
    )


def test_text_lines_carry_the_same() -> None:
    with correlated("c-1"):
        line = formatter("text").format(_record())

    assert "a plain line" in line
    assert "correlation_id=c-1" in line


@pytest.mark.parametrize("style", ["text", "json", "short"])
def test_half_a_character_loses_no_line(style: str) -> None:
    line = formatter(style).format(_record(job="\ud800"))
    record = _record()
    record.msg, record.args = "half \ud800", ()

    assert formatter(style).format(record).encode()
    assert line.encode()


@pytest.mark.parametrize("style", ["text", "json", "short"])
def test_a_traceback_shows_no_local_variables(style: str) -> None:
    password = "hunter" + "2"
    record = _record()
    try:
        raise ValueError(len(password))
    except ValueError as error:
        record.exc_info = (type(error), error, error.__traceback__)

    line = formatter(style).format(record)

    assert "ValueError" in line
    assert "hunter2" not in line


def test_the_librarys_lines_about_single_jobs_are_dropped() -> None:
    keep = NoJobArguments().filter

    assert not keep(_record("procrastinate.worker", job={"task_kwargs": {}}))
    assert not keep(_record("procrastinate.worker.worker", action="ending_job"))
    assert keep(_record("procrastinate.worker", action="start_worker"))
    assert keep(_record("myapp", job={"id": 1}))


def test_short_lines_leave_out_what_is_usual_and_shorten_ids() -> None:
    task_id = "01a2329f-e59c-7822-a82f-42c575dd9ab8"

    def write(level: int, attempt: int) -> str:
        bind_run(task_id=task_id, job_id=7, task_name="add", attempt=attempt)
        record = _record()
        record.levelno, record.levelname = level, logging.getLevelName(level)
        record.msg, record.args = f"GET /api/tasks/{task_id}/", ()
        return formatter("short").format(record)

    usual = contextvars.copy_context().run(write, logging.INFO, 1)
    unusual = contextvars.copy_context().run(write, logging.WARNING, 2)

    ids = "task_id=…75dd9ab8 job_id=7 task_name=add"
    assert re.fullmatch(rf"\d\d:\d\d:\d\d GET /api/tasks/…75dd9ab8/ {ids}", usual)
    words = "WARNING someone.elses.library: GET /api/tasks/…75dd9ab8/"
    assert re.fullmatch(rf"\d\d:\d\d:\d\d {words} {ids} attempt=2", unusual)
