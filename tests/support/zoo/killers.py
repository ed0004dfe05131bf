"""Functions that end their worker, each in a way of its own."""

import asyncio
import ctypes
import os
import re
import resource
import signal
import sys
import threading
import time
from pathlib import Path

from zoo.parts import raise_in_the_watchdog
from zoo.table import ANY_END, ASYNC, ATOMIC, HARD, PLAIN, TOO_LATE, killer

MEGABYTE = 1024 * 1024
# Above what a worker takes that does nothing, and far below what the machine has.
BLOAT_BYTES = 200 * MEGABYTE
HEADROOM_BYTES = 150 * MEGABYTE
CHILDREN = 20
CHILD_SECONDS = 8
# The watchdog ends a worker that hangs for so long.
HANGS = {"JOBS_WORKER_LOOP_LAG_SECONDS": "1", "JOBS_WORKER_LOOP_DEAD_SECONDS": "2"}
# About half a minute in one call of C, which never lets go of the interpreter.
NUMBERS = 2 * 10**9
LETTERS = "a" * 29 + "b"


@killer(PLAIN, ATOMIC, ASYNC)
def exit_at_once() -> None:
    os._exit(3)


@killer(PLAIN)
def exit_with_success() -> None:
    os._exit(0)


@killer(PLAIN, ASYNC)
def abort() -> None:
    os.abort()


@killer(PLAIN)
def read_where_nothing_is() -> None:
    ctypes.string_at(0)


@killer(PLAIN, ATOMIC)
def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@killer(ASYNC, end=ANY_END)  # it holds up the loop, and has ended when the loop hears of it
@killer(PLAIN, ATOMIC)
def terminate_itself() -> None:
    """Not a signal from outside: it counts as a crash."""
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(3)


@killer(ASYNC)
async def terminate_itself_and_wait() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(20)


@killer(PLAIN)
def interrupt_itself_twice() -> None:
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
    time.sleep(3)


@killer(PLAIN)
def ring_an_alarm() -> None:
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    time.sleep(2)


@killer(PLAIN)
def send_a_signal_to_the_loop() -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR2)
    time.sleep(1)


@killer(PLAIN)
def become_another_program() -> None:
    os.execv("/bin/true", ["true"])  # noqa: S606 # that is it


@killer(PLAIN)
def close_every_descriptor() -> None:
    os.closerange(3, 4096)
    time.sleep(2)


@killer(ASYNC)
def close_every_descriptor_of_the_loop() -> None:
    os.closerange(3, 4096)


@killer(ASYNC)
async def stop_the_loop() -> None:
    asyncio.get_running_loop().stop()
    await asyncio.sleep(2)


@killer(ASYNC)
async def exit_in_a_callback() -> None:
    asyncio.get_running_loop().call_soon(sys.exit, 0)
    await asyncio.sleep(2)


@killer(PLAIN)
def interrupt_the_loop() -> None:
    """KeyboardInterrupt in the thread of the loop, and not by a signal."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(threading.main_thread().ident or 0), ctypes.py_object(KeyboardInterrupt)
    )
    time.sleep(3)


@killer(PLAIN, ASYNC, settings=HANGS)
def hold_the_interpreter() -> None:
    sum(range(NUMBERS))


@killer(PLAIN, settings=HANGS)
def match_for_ever() -> None:
    re.match(r"(a+)+$", LETTERS)


@killer(ASYNC, settings=HANGS)
def hold_the_loop_up_for_ever() -> None:
    time.sleep(20)


@killer(ASYNC, settings=HANGS)
async def hold_the_loop_up_without_a_watchdog() -> None:
    """The watchdog broke a moment before: another one has taken its place."""
    raise_in_the_watchdog()
    await asyncio.sleep(3)
    time.sleep(20)  # noqa: ASYNC251 # that is it


@killer(PLAIN, end=ANY_END)
def use_all_memory() -> None:
    """Under a limit of the process, which stays: nothing restores it."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = taken + HEADROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    hog = []
    while True:
        hog.append(b"x" * MEGABYTE)


@killer(PLAIN, settings={"JOBS_WORKER_MAX_MEMORY_MB": "200", "JOBS_WORKER_GRACE_SECONDS": "1"})
def bloat_until_it_is_recycled() -> None:
    hog = b"x" * BLOAT_BYTES
    time.sleep(10)
    del hog


@killer(HARD, end=TOO_LATE, settings={"JOBS_WORKER_MAX_LOST_THREADS": "0"})
def outlast_its_limit() -> None:
    """Its thread is lost, and with it the worker is recycled."""
    time.sleep(4)


@killer(PLAIN, end=ANY_END)
def fork_many() -> None:
    for _ in range(CHILDREN):
        if os.fork() == 0:
            signal.setitimer(signal.ITIMER_REAL, CHILD_SECONDS)
            return  # each goes on as its parent does


@killer(ASYNC, end=ANY_END)
def fork_many_loops() -> None:
    for _ in range(CHILDREN):
        if os.fork() == 0:
            signal.setitimer(signal.ITIMER_REAL, CHILD_SECONDS)
            return


@killer(PLAIN, end=ANY_END)
def exit_a_little_later() -> None:
    """Its own job is over by then."""
    timer = threading.Timer(0.2, os._exit, [3])
    timer.daemon = True
    timer.start()
