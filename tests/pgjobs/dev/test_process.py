"""Children that end with the process that started them."""

import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from pgjobs.dev import become
from pgjobs.dev.process import spawn


def test_a_missing_program_ends_with_127(capfd: pytest.CaptureFixture[str]) -> None:
    with spawn(["no-such-program"], death_signal=signal.SIGTERM) as process:
        assert process.wait() == 127
    assert "no-such-program: No such file or directory" in capfd.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a pipe tells")
def test_a_child_whose_parent_died_before_it_could_ask_for_the_signal_does_not_start() -> None:
    not_its_parent = "1"
    started = subprocess.run(  # noqa: S603
        [sys.executable, become.__file__, not_its_parent, "15", "", "", "", "echo", "started"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (started.returncode, started.stdout) == (1, "")


def test_a_child_does_not_inherit_blocked_signals() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        process = spawn(["sleep", "60"], death_signal=signal.SIGKILL)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    with process:
        process.terminate()
        try:
            assert process.wait(timeout=5) == -signal.SIGTERM
        finally:
            process.kill()


def test_a_child_does_not_inherit_what_python_ignores() -> None:
    with spawn(["sh", "-c", "kill -PIPE $$"], death_signal=signal.SIGKILL) as process:
        assert process.wait() == -signal.SIGPIPE


def test_a_child_leads_its_own_session() -> None:
    with spawn(["sleep", "60"], death_signal=signal.SIGKILL) as process:
        assert os.getsid(process.pid) == process.pid
        process.kill()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, 0)
        pytest.fail("something is left of the session")
