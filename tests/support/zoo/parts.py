"""Attacks on the parts of the worker itself: threads, side tasks, connections, descriptors."""

import asyncio
import ctypes
import gc
import os
import resource
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg
from asgiref.sync import SyncToAsync, sync_to_async

from zoo.sql import run_sql
from zoo.table import ANY_END, ASYNC, PLAIN, SYNC_TO_ASYNC, nuisance


@nuisance(PLAIN, ASYNC, end=ANY_END)
def raise_in_the_heartbeat() -> None:
    _raise_in(lambda thread: thread.name == "heartbeat", RuntimeError)


@nuisance(PLAIN, ASYNC, end=ANY_END)
def end_the_heartbeat() -> None:
    _raise_in(lambda thread: thread.name == "heartbeat", SystemExit)


@nuisance(PLAIN, ASYNC, end=ANY_END)
def raise_in_threads_of_tasks() -> None:
    _raise_in(lambda thread: thread.name == "task", RuntimeError)


@nuisance(PLAIN, end=ANY_END)
def raise_in_its_own_thread() -> None:
    """Strikes at the next instruction, which may be one of the engine's."""
    _raise_in(lambda thread: thread is threading.current_thread(), RuntimeError, itself=True)


@nuisance(PLAIN, ASYNC, end=ANY_END)
def raise_in_the_watchdog() -> None:
    _raise_in(lambda thread: thread.name == "watchdog", RuntimeError)


@nuisance(PLAIN, end=ANY_END)
def raise_in_threads_of_the_engine() -> None:
    _raise_in(lambda thread: thread.name.startswith("engine"), RuntimeError)


@nuisance(PLAIN, end=ANY_END)
def raise_in_every_thread_but_the_loop() -> None:
    main = threading.main_thread()
    _raise_in(lambda thread: thread is not main, RuntimeError)


@nuisance(ASYNC, SYNC_TO_ASYNC, end=ANY_END)
def raise_in_the_thread_of_async_tasks() -> None:
    _raise_in(lambda thread: thread.name.startswith("ThreadPoolExecutor"), RuntimeError)


@nuisance(ASYNC, end=ANY_END)
def cancel_every_task_of_the_loop() -> None:
    for task in asyncio.all_tasks():
        task.cancel()


@nuisance(ASYNC, end=ANY_END)
def cancel_every_other_task_of_the_loop() -> None:
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()


@nuisance(ASYNC, end=ANY_END)
async def cancel_every_task_again_and_again() -> None:
    for _ in range(5):
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0.02)


@nuisance(PLAIN, company=False)
def take_all_descriptors_for_a_while() -> None:
    _take_all_descriptors(seconds=1.5)


@nuisance(PLAIN, company=False, is_long=True)
def take_all_descriptors_for_long() -> None:
    _take_all_descriptors(seconds=6.0)


@nuisance(PLAIN, ASYNC, company=False, end=ANY_END)
def let_no_thread_start_at_its_end() -> None:
    """The refusal outlasts the job by a moment: a thread that runs already lifts it."""
    _refuse_threads_for(1.0, before_it_returns=0.2)


@nuisance(PLAIN, end=ANY_END)
def let_no_thread_start_for_a_while() -> None:
    _refuse_threads_for(1.5, before_it_returns=1.5)


@nuisance(PLAIN, ASYNC, end=ANY_END)
def close_every_connection() -> None:
    for connection in _connections():
        with suppress(psycopg.Error):
            connection.pgconn.finish()


@nuisance(PLAIN, ASYNC, end=ANY_END)
def shut_every_connection() -> None:
    """The sockets end below the driver, as when a peer is gone."""
    for connection in _connections():
        with (
            suppress(OSError, psycopg.Error),
            socket.socket(fileno=os.dup(connection.pgconn.socket)) as twin,
        ):
            twin.shutdown(socket.SHUT_RDWR)


@nuisance(PLAIN, SYNC_TO_ASYNC, end=ANY_END)
def terminate_every_session() -> None:
    run_sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name LIKE 'worker%'"
    )


@nuisance(ASYNC, end=ANY_END)
async def shut_the_executor_of_the_loop_down() -> None:
    await asyncio.get_running_loop().shutdown_default_executor()


@nuisance(ASYNC, end=ANY_END)
def shut_the_thread_of_async_tasks_down() -> None:
    SyncToAsync.single_thread_executor.shutdown(wait=False)


@nuisance(ASYNC, end=ANY_END)
async def leave_a_task_that_fails() -> None:
    async def fail() -> None:
        raise ValueError("of a job that is over")

    asyncio.get_running_loop().create_task(fail())  # nothing keeps it: that is it
    await asyncio.sleep(0)


@nuisance(ASYNC)
def leave_a_callback_that_fails() -> None:
    def fail() -> None:
        raise ValueError("of a job that is over")

    asyncio.get_running_loop().call_soon(fail)


@nuisance(ASYNC, end=ANY_END)
async def abandon_a_call_in_the_thread_of_async_tasks() -> None:
    call = asyncio.ensure_future(sync_to_async(time.sleep)(0.5))
    await asyncio.sleep(0.05)
    call.cancel()


@nuisance(ASYNC)
def hold_the_loop_up() -> None:
    time.sleep(0.5)


@nuisance(PLAIN)
def leave_a_thread_running() -> None:
    threading.Thread(target=time.sleep, args=(0.5,)).start()


@nuisance(PLAIN)
def raise_in_a_thread_of_its_own() -> None:
    def fail() -> None:
        raise ValueError("in a thread of a job")

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()


def _raise_in(
    chosen: Callable[[threading.Thread], bool],
    error: type[BaseException],
    *,
    itself: bool = False,
) -> None:
    for thread in threading.enumerate():
        if chosen(thread) and (itself or thread is not threading.current_thread()):
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread.ident or 0), ctypes.py_object(error)
            )


def _take_all_descriptors(*, seconds: float) -> None:
    """Take every descriptor that comes free, under a low limit of them."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, before[0]), before[1]))
    taken: list[int] = []
    until = time.monotonic() + seconds
    try:
        while time.monotonic() < until:
            with suppress(OSError):
                while True:
                    taken.append(os.open("/dev/null", os.O_RDONLY))
            time.sleep(0.001)
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def _refuse_threads_for(seconds: float, *, before_it_returns: float) -> None:
    """Let no thread of this process start, as when the system has no room for one."""
    lifted = threading.Event()

    def lift() -> None:
        began.wait()
        time.sleep(seconds)
        restore()
        lifted.set()

    began = threading.Event()
    lifter = threading.Thread(target=lift, name="zoo", daemon=True)
    lifter.start()
    restore = _refuse_threads()
    began.set()
    lifted.wait(before_it_returns)


def _refuse_threads() -> Callable[[], None]:
    start = threading.Thread.start

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    threading.Thread.start = refuse  # type: ignore[method-assign, assignment]

    def restore() -> None:
        threading.Thread.start = start  # type: ignore[method-assign]

    return restore


def _connections() -> list[Any]:
    kinds = (psycopg.Connection, psycopg.AsyncConnection)
    return [found for found in gc.get_objects() if isinstance(found, kinds)]
