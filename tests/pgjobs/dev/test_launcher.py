"""The launcher over a Procfile of tiny real processes, itself run as a process of its own."""

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from programs import NEVER, Program

from pgjobs.dev.child import describe_exit
from pgjobs.dev.console import Console
from pgjobs.dev.errors import ProcessEndedError
from pgjobs.dev.launcher import STOP_SECONDS, Launcher

# `manage.py dev` less Django, Postgres and the demo.
SESSION = """
import os, sys
from pathlib import Path
from queue import SimpleQueue
from pgjobs.dev.console import Console
from pgjobs.dev.errors import DevError
from pgjobs.dev import launcher as module
from pgjobs.dev.launcher import Launcher
from pgjobs.dev.stopping import StopRequested, stop_on_signals
from pgjobs.dev.watcher import watching

module.EDIT_GRACE_SECONDS = float(os.environ.get("EDIT_GRACE_SECONDS", 5))
module.STOP_SECONDS = float(os.environ.get("STOP_SECONDS", 3))
stop_on_signals()
root, edits, console = Path(sys.argv[1]), SimpleQueue(), Console(sys.stdout, colours=False)
try:
    with (
        watching(root, edits, console),
        Launcher(("web", "worker"), root=root, environment=os.environ, console=console) as launcher,
    ):
        launcher.start("web")
        launcher.start("worker")
        launcher.run(edits)
except StopRequested:
    console.line("Stopped.")
except DevError as error:
    sys.exit(str(error))
"""

# Says its pid and stays; tasks/code.py stands for the code that a process loads.
STAYS = """
import os, runpy, time
runpy.run_path("tasks/code.py")
os.write(1, f"pid {os.getpid()}\\n".encode())
while True:
    time.sleep(0.05)
"""
# So does this one, and a child of its own.
FORKS = f"""
import os
os.fork()
{STAYS}
"""
# Says so when it is asked to stop, and goes on.
STUBBORN = f"""
import os, signal
signal.signal(signal.SIGTERM, lambda *_: os.write(1, b"asked to stop\\n"))
{STAYS}
"""


type Run = Callable[..., Program]
type IsGone = Callable[[int], bool]


@pytest.fixture
def run(start: Callable[..., Program], tmp_path: Path) -> Run:
    """Run a session over `tmp_path` with these scripts: `run(web=STUBBORN)`; others just stay."""

    def run_session(*, web: str = STAYS, worker: str = STAYS, **environment: str) -> Program:
        write_project(tmp_path, web=web, worker=worker)
        return start(sys.executable, "-c", SESSION, str(tmp_path), **environment)

    return run_session


def write_project(root: Path, **scripts: str) -> None:
    """Write a Procfile with these processes, and the code that they load."""
    (root / "tasks").mkdir()
    (root / "tasks" / "code.py").touch()
    lines = ["release: touch released"]
    for name, script in scripts.items():
        (root / f"{name}.py").write_text(script)
        lines.append(f"{name}: {sys.executable} -u {name}.py")
    (root / "Procfile").write_text("\n".join([*lines, ""]))


def pid(session: Program, name: str) -> int:
    """Return the next pid that the process `name` reports."""
    return int(session.line(f"{name:<6} | pid ").split()[-1])


def test_each_line_appears_at_once_under_the_name_of_its_process(run: Run) -> None:
    session = run(web="print('one'); print('two', flush=True)\n" + STAYS)

    assert session.line("two") == "web    | two"
    assert "web    | one" in session.lines
    assert pid(session, "worker")


def test_the_shell_expands_the_command(run: Run, tmp_path: Path) -> None:
    session = run(worker="import sys; print(*sys.argv[1:])\n" + STAYS)
    pid(session, "web")
    # Read again after an edit: of the Procfile, here.
    text = (tmp_path / "Procfile").read_text()
    edit(tmp_path / "Procfile", text.replace("worker.py", "worker.py ${NOWHERE:-8000}"), session)

    assert session.line("8000") == "worker | 8000"


def test_release_is_not_run(run: Run, tmp_path: Path) -> None:
    session = run()
    pid(session, "worker")

    assert not (tmp_path / "released").exists()


def test_an_unasked_death_stops_all_with_the_reason(run: Run, is_gone: IsGone) -> None:
    session = run(worker="import time; time.sleep(0.3); print('bye'); raise SystemExit(3)")
    web = pid(session, "web")

    assert session.end() == 1
    assert session.lines[-1] == ("worker ended unasked: exit status 3. All processes were stopped.")
    assert "worker | bye" in session.lines
    assert is_gone(web)


def test_an_unasked_end_without_an_error_stops_all_too(run: Run) -> None:
    session = run(web="")

    assert session.end() == 1
    assert session.lines[-1].startswith("web ended unasked: exit status 0.")


def test_the_reason_is_told_even_when_the_stop_is_asked_for_too(run: Run, is_gone: IsGone) -> None:
    session = run(web=STUBBORN, worker="import time; time.sleep(0.3)")
    web = pid(session, "web")
    session.line("asked to stop")

    session.send(signal.SIGTERM)

    assert session.end() == 1
    assert session.lines[-1].startswith("worker ended unasked: exit status 0.")
    assert is_gone(web)


def test_a_kill_is_named(run: Run) -> None:
    session = run()
    os.kill(pid(session, "web"), signal.SIGKILL)

    assert session.end() == 1
    assert session.lines[-1].startswith("web ended unasked: killed by SIGKILL.")


def test_the_death_of_a_server_watched_over_is_told_with_its_log(tmp_path: Path) -> None:
    write_project(tmp_path, web=STAYS)
    output = io.StringIO()
    console = Console(output, colours=False)
    launcher = Launcher(["web"], root=tmp_path, environment={}, console=console)
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=-1
    ) as server:
        launcher.watch_over("postgres", server, last_words=lambda: " PANIC")
        launcher.check()
        server.kill()

    with pytest.raises(ProcessEndedError, match="postgres ended unasked: killed by SIGKILL"):
        launcher.check()

    assert output.getvalue() == "The end of the log of postgres: PANIC\n"


def test_kill_9_of_the_launcher_leaves_no_process(run: Run, is_gone: IsGone) -> None:
    session = run()
    processes = [pid(session, "web"), pid(session, "worker")]

    session.send(signal.SIGKILL)

    session.end()
    assert all(map(is_gone, processes))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all(run: Run, is_gone: IsGone, number: signal.Signals) -> None:
    session = run()
    processes = [pid(session, "web"), pid(session, "worker")]

    session.send(number)

    assert session.end() == 0
    assert session.lines[-1] == "Stopped."
    assert all(map(is_gone, processes))


def test_the_death_of_make_stops_all(
    start: Callable[..., Program], tmp_path: Path, is_gone: IsGone
) -> None:
    write_project(tmp_path, web=STAYS, worker=STAYS)
    command = f'{sys.executable} -c "$SESSION" {tmp_path}; true'
    make = start("/bin/sh", "-c", command, SESSION=SESSION, MAKELEVEL="1")
    processes = [pid(make, "web"), pid(make, "worker")]

    make.send(signal.SIGKILL)

    assert make.line("Stopped.")
    assert all(map(is_gone, processes))


def test_what_ignores_sigterm_is_killed_after_3_seconds(run: Run, is_gone: IsGone) -> None:
    assert STOP_SECONDS == 3.0
    session = run(web=STUBBORN, STOP_SECONDS="0.2")
    processes = [pid(session, "web"), pid(session, "worker")]

    session.send(signal.SIGTERM)

    assert session.end() == 0
    assert all(map(is_gone, processes))


def test_a_second_ctrl_c_ends_at_once(run: Run, is_gone: IsGone) -> None:
    session = run(web=STUBBORN, STOP_SECONDS=str(NEVER))
    processes = [pid(session, "worker"), pid(session, "web")]
    session.send(signal.SIGINT)
    session.line("asked to stop")

    session.send(signal.SIGINT)

    assert session.end() == -signal.SIGINT
    assert all(map(is_gone, processes))


def test_children_of_a_process_are_stopped_with_it(run: Run, is_gone: IsGone) -> None:
    session = run(worker=FORKS)
    processes = [pid(session, "worker"), pid(session, "worker")]

    session.send(signal.SIGTERM)

    session.end()
    assert all(map(is_gone, processes))


def test_an_edit_restarts_both(run: Run, is_gone: IsGone, tmp_path: Path) -> None:
    session = run()
    before = [pid(session, "web"), pid(session, "worker")]

    edit(tmp_path / "tasks" / "code.py", "print('edited')", session)

    session.line("web    | edited")
    assert not {pid(session, "web"), pid(session, "worker")} & set(before)
    assert all(map(is_gone, before))


def test_a_broken_edit_is_reported_and_the_next_one_mends_it(run: Run, tmp_path: Path) -> None:
    session = run(EDIT_GRACE_SECONDS=str(NEVER))
    # Both have read the code that is about to break.
    pid(session, "worker")
    pid(session, "web")

    edit(tmp_path / "tasks" / "code.py", "this is no code", session)
    session.line("web ended: exit status 1. It starts again with the next edit.")
    session.line("worker ended: exit status 1.")
    edit(tmp_path / "tasks" / "code.py", "", session)

    assert pid(session, "web")
    assert pid(session, "worker")


def test_a_broken_procfile_changes_nothing(run: Run, tmp_path: Path) -> None:
    session = run()
    worker = pid(session, "worker")

    edit(tmp_path / "Procfile", "web: true\n", session)

    assert "has no line 'worker: <command>'." in session.line("cannot be used")
    os.kill(worker, 0)


def test_a_death_long_after_an_edit_stops_all(run: Run, tmp_path: Path) -> None:
    session = run(EDIT_GRACE_SECONDS="0.1")
    pid(session, "web")
    edit(tmp_path / "tasks" / "code.py", "", session)
    restarted = pid(session, "web")
    time.sleep(0.2)

    os.kill(restarted, signal.SIGKILL)

    assert session.end() == 1
    assert session.lines[-1].startswith("web ended unasked: killed by SIGKILL.")


def test_other_files_restart_nothing(run: Run, tmp_path: Path) -> None:
    session = run()
    before = pid(session, "worker")
    for name in ("notes.md", "code.pyc", ".code.py.swp", "code.py~"):
        (tmp_path / "tasks" / name).touch()

    edit(tmp_path / "tasks" / "page.html", "", session)

    assert pid(session, "worker") != before
    assert [line for line in session.lines if "changed" in line] == [
        "tasks/page.html changed: restarting web and worker."
    ]


def test_a_reader_that_goes_away_stops_all(
    start: Callable[..., Program], tmp_path: Path, is_gone: IsGone
) -> None:
    endless = "import os, time\nwhile True: print('pid', os.getpid()); time.sleep(0.02)"
    write_project(tmp_path, web=endless, worker=STAYS)
    command = f'{sys.executable} -c "$SESSION" {tmp_path} | head -n 3'

    pipeline = start("/bin/sh", "-c", command, SESSION=SESSION)

    assert pipeline.end() == 0
    assert is_gone(pid(pipeline, "web"))


@pytest.mark.parametrize(
    ("exit_code", "text"),
    [
        (0, "exit status 0"),
        (3, "exit status 3"),
        (-9, "killed by SIGKILL"),
        (-63, "killed by signal 63"),
    ],
)
def test_an_exit_in_words(exit_code: int, text: str) -> None:
    assert describe_exit(exit_code) == text


def edit(file: Path, text: str, session: Program) -> None:
    """Write `file` and wait until the session has noticed."""
    file.write_text(text)
    session.line(f"{file.name} changed")
