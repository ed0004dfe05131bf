"""Engines that are broken on purpose, one for each promise: the harness must catch every one.

Each replaces one piece of the engine in a worker process.
"""

import asyncio
import functools
import json
import time
from collections.abc import Callable
from typing import Any

import psycopg
from crash_points import _take_the_fence_down
from django.db import transaction
from procrastinate.contrib.django.utils import connector_params

from tasks.engine import outage, reaper
from tasks.engine.atomic import AtomicRuns
from tasks.engine.completion import Completer, Ended
from tasks.engine.manager import COMPLETE_SQL, complete_parameters
from tasks.engine.outcome import outcome_of
from tasks.engine.reaper import Reaper
from tasks.engine.run import Run
from tasks.engine.work import Implementation


def break_engine(twin: str) -> None:
    """Break the engine of this process in the way named."""
    TWINS[twin]()


def _no_rescue() -> None:
    """Nobody looks after the dead."""

    async def look(_self: Reaper, _worker_id: int) -> list[dict[str, Any]]:
        return []

    _replace(Reaper, "look", look)


def _ack_first() -> None:
    """An atomic job is DONE before its function begins."""

    def call(_self: AtomicRuns, run: Run, _before: Callable[[], None], *, delete: str) -> None:
        run.result = json.dumps({"run": run.number})
        with psycopg.connect(**connector_params()) as apart:
            apart.execute(COMPLETE_SQL, complete_parameters([outcome_of(run, delete=delete)]))
        run.committed = True
        with transaction.atomic():
            run.work.call(run)

    _replace(AtomicRuns, "call", call)


def _not_atomic() -> None:
    """The effects of an atomic job are committed a while before its end."""
    implement = Implementation.__init__

    def init(
        self: Implementation,
        function: Callable[..., Any],
        *rest: Any,
        is_atomic: bool,
        **limits: Any,
    ) -> None:
        slow = _with_a_pause(function) if is_atomic else function
        implement(self, slow, *rest, is_atomic=False, **limits)

    _replace(Implementation, "__init__", init)


def _with_a_pause(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(**arguments: Any) -> Any:
        result = function(**arguments)
        time.sleep(0.2)
        return result

    return call


def _gives_up() -> None:
    """A database that does not answer ends the worker."""
    _replace(outage, "is_transient", lambda _error: False)


def _writes_once() -> None:
    """An outcome is written once; when that fails it is forgotten, and so is the job."""
    _no_rescue()

    async def write(self: Completer, group: list[Ended]) -> None:
        try:
            written = await self._manager.complete([outcome for _, outcome in group])
        except psycopg.Error:
            self._on_written([run for run, _ in group])
        else:
            self._note(group, written)

    _replace(Completer, "_write", write)


def _endless_crashes() -> None:
    """A job may take along as many workers as it likes."""
    reaper.MAX_CRASHES = 10**6


def _careless_results() -> None:
    """Results are dumped as they are, and what cannot be written is tried for ever."""

    def encode(_self: Implementation, result: Any) -> str | None:
        return None if result is None else json.dumps(result)

    async def write(self: Completer, group: list[Ended]) -> None:
        while True:
            try:
                await self._write_surely(group)
            except psycopg.Error:
                await asyncio.sleep(0.1)
            else:
                return

    _replace(Implementation, "encode", encode)
    _replace(Completer, "_write", write)


def _replace(owner: object, name: str, piece: object) -> None:
    assert hasattr(owner, name)
    setattr(owner, name, piece)


TWINS: dict[str, Callable[[], None]] = {
    "no_fence": _take_the_fence_down,
    "no_rescue": _no_rescue,
    "ack_first": _ack_first,
    "not_atomic": _not_atomic,
    "gives_up": _gives_up,
    "writes_once": _writes_once,
    "endless_crashes": _endless_crashes,
    "careless_results": _careless_results,
}
