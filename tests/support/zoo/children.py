"""Children of a function: what they inherit does not harm the worker."""

import asyncio
import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import cache
from typing import Any

from django.db import connection, connections

from pgjobs.contract.context import TaskContext
from zoo.sql import do_forbidden, have_effect, run_sql
from zoo.table import ASYNC, ATOMIC, PLAIN, nuisance

FORK = multiprocessing.get_context("fork")
SPAWN = multiprocessing.get_context("spawn")
FORK_SERVER = multiprocessing.get_context("forkserver")

CHILD_SECONDS = 6
PATIENCE_SECONDS = 3.0
# No child lives longer, whatever becomes of it.
LONGEST_SECONDS = 25.0


class ChildNotEndedError(Exception):
    """A child goes on although it was told to end."""


@cache
def bound_children() -> None:
    """See to it that the children of this process are gone in time, whatever they come to."""
    os.register_at_fork(
        after_in_child=lambda: signal.setitimer(signal.ITIMER_REAL, LONGEST_SECONDS)
    )


@nuisance(PLAIN, ATOMIC, ASYNC)
def fork_and_exit() -> None:
    _await(_fork(lambda: None))


@nuisance(PLAIN, ATOMIC, ASYNC)
def fork_and_return_in_both() -> dict[str, Any]:
    pid = os.fork()
    if pid:
        _await(pid)  # it must not go on as a worker; if it does, it is ended
    return {"pid": os.getpid()}


@nuisance(PLAIN, ASYNC)
def fork_and_raise_in_the_child() -> None:
    pid = os.fork()
    if pid == 0:
        raise ValueError("in the child")
    _await(pid)


@nuisance(PLAIN, ASYNC)
def fork_and_sys_exit_in_the_child() -> None:
    pid = os.fork()
    if pid == 0:
        sys.exit(0)
    _await(pid)


@nuisance(PLAIN, ATOMIC)
def use_the_orm_in_a_child() -> None:
    run_sql("SELECT 1")
    _await(_fork(lambda: run_sql("SELECT 2")))
    assert run_sql("SELECT 3") == [(3,)]


@nuisance(PLAIN, ATOMIC)
def close_connections_in_a_child() -> None:
    run_sql("SELECT 1")
    _await(_fork(connections.close_all))
    assert run_sql("SELECT 3") == [(3,)]


@nuisance(ATOMIC)
def roll_back_in_a_child(context: TaskContext) -> dict[str, Any]:
    """What the parent wrote stays."""
    have_effect(context)
    _await(_fork(lambda: run_sql("ROLLBACK")))
    return {"rows": 1}


@nuisance(PLAIN)
def close_below_django_in_a_child() -> None:
    run_sql("SELECT 1")
    _await(_fork(connection.connection.close))
    assert run_sql("SELECT 3") == [(3,)]


@nuisance(PLAIN, ASYNC)
def run_a_child() -> None:
    child = FORK.Process(target=abs, args=(1,))
    child.start()
    _joined(child)


@nuisance(PLAIN, ASYNC)
def terminate_a_child() -> None:
    child = FORK.Process(target=time.sleep, args=(CHILD_SECONDS,))
    child.start()
    time.sleep(0.2)
    child.terminate()
    _joined(child)


@nuisance(PLAIN)
def terminate_children_at_once() -> None:
    for _ in range(5):
        child = FORK.Process(target=time.sleep, args=(0.05,))
        child.start()
        child.terminate()
        _joined(child)


@nuisance(PLAIN)
def interrupt_a_forked_child() -> None:
    pid = _fork(lambda: time.sleep(CHILD_SECONDS))
    time.sleep(0.1)
    os.kill(pid, signal.SIGINT)
    _await(pid)


@nuisance(PLAIN)
def map_in_a_pool() -> None:
    for _ in range(3):
        with FORK.Pool(2) as pool:
            assert pool.map(abs, [-1, -2, -3]) == [1, 2, 3]


@nuisance(PLAIN, is_long=True)
def map_in_many_pools() -> None:
    for _ in range(20):
        with FORK.Pool(2) as pool:
            pool.map(abs, [-1, -2, -3])


@nuisance(PLAIN)
def leave_a_pool_that_is_busy() -> None:
    with suppress(multiprocessing.TimeoutError), FORK.Pool(1) as pool:
        pool.apply_async(time.sleep, [CHILD_SECONDS]).get(timeout=0.3)


@nuisance(PLAIN)
def use_an_executor() -> None:
    with ProcessPoolExecutor(2, mp_context=FORK) as pool:
        assert list(pool.map(abs, [-1, -2])) == [1, 2]


@nuisance(PLAIN, is_long=True)
def use_an_executor_that_spawns() -> None:
    with ProcessPoolExecutor(1, mp_context=SPAWN) as pool:
        assert list(pool.map(abs, [-1])) == [1]


@nuisance(PLAIN, is_long=True)
def use_a_fork_server() -> None:
    with FORK_SERVER.Pool(1) as pool:
        assert pool.map(abs, [-1]) == [1]


@nuisance(ASYNC)
async def use_an_executor_from_the_loop() -> None:
    with ProcessPoolExecutor(1, mp_context=FORK) as pool:
        assert await asyncio.get_running_loop().run_in_executor(pool, abs, -1) == 1


@nuisance(PLAIN, ASYNC)
def run_a_program() -> None:
    subprocess.run(["true"], check=True)  # noqa: S607 # the system's own


@nuisance(PLAIN)
def run_a_program_after_python_in_the_child() -> None:
    # Runs Python between fork and exec, and so all that is to happen after a fork.
    command = ["sleep", str(CHILD_SECONDS)]
    program = subprocess.Popen(command, preexec_fn=os.setsid)  # noqa: PLW1509, S603 # that is it
    program.terminate()
    program.wait(PATIENCE_SECONDS)


@nuisance(PLAIN)
def terminate_a_program() -> None:
    program = subprocess.Popen(["sleep", str(CHILD_SECONDS)])  # noqa: S603, S607 # the system's
    program.terminate()
    program.wait(PATIENCE_SECONDS)


@nuisance(PLAIN)
def leave_a_program_running() -> None:
    # It takes all descriptors along, and ends by itself.
    subprocess.Popen(["sleep", "2"], close_fds=False)  # noqa: S607 # the system's own


@nuisance(ASYNC)
async def run_a_program_from_the_loop() -> None:
    program = await asyncio.create_subprocess_exec("true")
    await program.wait()


@nuisance(PLAIN)
def reap_every_child() -> None:
    _fork(lambda: None)
    with suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


@nuisance(PLAIN)
def kill_a_child_that_works() -> None:
    pid = _fork(lambda: time.sleep(CHILD_SECONDS))
    os.kill(pid, signal.SIGKILL)
    _await(pid)


@nuisance(PLAIN)
def fork_below_python() -> None:
    """What Python is to do after a fork does not happen."""
    pid = ctypes.PyDLL(None).fork()  # with the interpreter's lock: the child would wait for it
    if pid == 0:
        signal.alarm(CHILD_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)
    _await(pid)


@nuisance(PLAIN)
def leave_a_forbidden_write_to_a_child(context: TaskContext) -> None:
    """A transaction of the child's own, on the connection it inherits, is not the parent's."""

    def write() -> None:
        run_sql("BEGIN")
        do_forbidden(context, "written by a child that did not commit")

    _await(_fork(write))


def _fork(work: Callable[[], Any]) -> int:
    """Return the id of a child that does this, and ends."""
    pid = os.fork()
    if pid:
        return pid
    try:
        work()
    finally:
        os._exit(0)


def _await(pid: int) -> None:
    """Wait for the end of a child. Raises ChildNotEndedError when it had to be killed."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if os.waitpid(pid, os.WNOHANG)[0]:
            return
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise ChildNotEndedError


def _joined(child: Any) -> None:
    child.join(PATIENCE_SECONDS)
    if child.exitcode is None:
        child.kill()
        child.join()
        raise ChildNotEndedError
