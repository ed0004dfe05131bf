"""Child processes that never outlive the process that started them."""

import os
import signal
import subprocess  # nosec B404 # starting processes is what this module is for
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

# Elsewhere a watchdog reads a pipe that closes when this process dies.
KERNEL_HAS_DEATH_SIGNAL = sys.platform == "linux"

_BECOME = Path(__file__).with_name("become.py")


class Account(NamedTuple):
    """A user of the operating system that a child runs as."""

    name: str
    uid: int
    gid: int


def spawn(
    args: Sequence[str],
    *,
    death_signal: signal.Signals = signal.SIGKILL,
    account: Account | None = None,
    **popen_kwargs: Any,
) -> subprocess.Popen[bytes]:
    """Start `args` as a child that gets `death_signal` when this process dies, however it dies.

    Call it in the main thread: the kernel ties the signal to the thread that starts the child.
    The child leads a session of its own, so Ctrl-C reaches only this process. With `account` it
    runs as that user, without further groups. A missing program is not an exception: the child
    says so on its stderr and exits with 127.
    """
    # The child is this interpreter running become.py, which becomes the program. A `preexec_fn`
    # would run Python between fork and exec, which can deadlock when other threads exist; and the
    # order of dropping rights and asking for the signal is plain to see there.
    # -I -S: no site-packages and no PYTHON* variables on the way, only a quick start.
    read_end, write_end = (None, None) if KERNEL_HAS_DEATH_SIGNAL else os.pipe()
    inherited = [*popen_kwargs.pop("pass_fds", ()), *([read_end] if read_end else [])]
    wrapper = [sys.executable, "-I", "-S", str(_BECOME), str(os.getpid()), str(int(death_signal))]
    rights = [str(account.uid), str(account.gid)] if account else ["", ""]
    try:
        return subprocess.Popen(  # noqa: S603 # nosec B603 # our own interpreter, no shell
            [*wrapper, *rights, str(read_end or ""), *args],
            start_new_session=True,
            pass_fds=inherited,
            **popen_kwargs,
        )
    except BaseException:
        if write_end is not None:
            os.close(write_end)
        raise
    finally:
        # The write end stays open, unseen, for as long as this process lives: that is its job.
        if read_end is not None:
            os.close(read_end)
