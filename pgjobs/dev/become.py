"""What a process started by `process.spawn` does before it becomes the program asked for.

Run as a script, with the standard library alone: it may hold root's rights, and it costs every
start some 20 ms. Nothing of the project is imported here.
"""

import ctypes
import os
import select
import signal
import sys

# os.execvp imports it on first use, when the interpreter may be out of the new user's reach.
import warnings  # noqa: F401
from typing import NoReturn

# From <linux/prctl.h>: the signal this process gets when its parent dies.
PR_SET_PDEATHSIG = 1

# How often the watchdog looks whether the program it watches has ended by itself.
WATCHDOG_SECONDS = 1.0

# More than a program inherits; the limit of the system may be billions.
DESCRIPTORS = 4096


def main(
    parent: str, death_signal: str, uid: str, gid: str, watch_fd: str, *program: str
) -> NoReturn:
    """Drop to `uid` and `gid` ("" keeps ours), arrange the death signal, become `program`.

    `watch_fd` is the pipe to watch where the kernel has no parent-death signal, else "".
    """
    if uid:
        _drop_to(int(uid), int(gid))
    # After the drop: a change of user clears the parent-death signal.
    if watch_fd:
        _die_with_pipe(int(watch_fd), int(death_signal))
    else:
        _die_with_parent(int(parent), int(death_signal))
    become(list(program))


def become(program: list[str]) -> NoReturn:
    """Replace this process by `program`; ends with 127 (126) where it is missing (not runnable)."""
    # Python ignores these two, and a launcher may have blocked others: programs inherit both.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    try:
        os.execvp(program[0], program)  # noqa: S606 # nosec B606 # the caller's own command line
    except OSError as error:
        print(f"{program[0]}: {error.strerror}", file=sys.stderr)
        sys.stderr.flush()
        os._exit(127 if isinstance(error, FileNotFoundError) else 126)


def _drop_to(uid: int, gid: int) -> None:
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def _die_with_parent(parent: int, death_signal: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, death_signal) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        sys.exit("The process that started this one is gone.")


def _die_with_pipe(watch_fd: int, death_signal: int) -> None:
    """Leave a watchdog behind: a child of the program, which signals it when the pipe closes."""
    watched = os.getpid()
    if os.fork():
        os.close(watch_fd)
        return
    os.setsid()
    # The pipe is all it holds, or readers of the program's output would wait for the watchdog.
    os.closerange(0, watch_fd)
    os.closerange(watch_fd + 1, DESCRIPTORS)
    while os.getppid() == watched:
        if select.select([watch_fd], [], [], WATCHDOG_SECONDS)[0]:
            os.kill(watched, death_signal)
            break
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
