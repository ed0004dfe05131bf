"""The launcher over a Procfile of tiny real processes, itself run as a process of its own."""

import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from programs import NEVER, Program, eventually

from pgjobs.dev.child import describe_exit
from pgjobs.dev.launcher import STOP_SECONDS
from pgjobs.dev.procfile import read_procfile

# A session less Postgres and the loading of a project.
SESSION = """
import os, sys
from pathlib import Path
from queue import Empty, SimpleQueue
from pgjobs.dev.console import Console
from pgjobs.dev import launcher as module
from pgjobs.dev.launcher import Launcher
from pgjobs.dev.port import require_free_port
from pgjobs.dev.procfile import read_procfile
from pgjobs.dev.stopping import StopRequested, stop_on_signals
from pgjobs.dev.watcher import watching

module.STEADY_SECONDS = float(os.environ.get("STEADY_SECONDS", 3600))
module.STEADY_AGAIN_SECONDS = float(os.environ.get("STEADY_AGAIN_SECONDS", 3600))
module.STOP_SECONDS = float(os.environ.get("STOP_SECONDS", 3))
stop_on_signals()
root, edits, console = Path(sys.argv[1]), SimpleQueue(), Console(sys.stdout, colours=False)

def commands():
    return read_procfile(root / "Procfile", {"web": "true", "worker": "true"})

def require_port(name):
    if name == "web" and "PORT" in os.environ:
        require_free_port(int(os.environ["PORT"]))

try:
    with (
        watching(root, edits, console),
        Launcher(
            commands, root=root, environment=os.environ, console=console, require_port=require_port
        ) as launcher,
    ):
        launcher.restart()
        while True:
            launcher.look()
            try:
                paths = edits.get(timeout=0.05)
            except Empty:
                continue
            console.line(f"{', '.join(paths)} changed")
            launcher.restart()
except StopRequested:
    console.line("Stopped.")
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


@pytest.mark.parametrize("status", [0, 3])
def test_what_ends_soon_after_its_start_stays_down_until_the_next_edit(
    run: Run, tmp_path: Path, status: int
) -> None:
    session = run(worker=f"print('bye'); raise SystemExit({status})")
    web = pid(session, "web")

    told = session.line("worker ended")
    edit(tmp_path / "worker.py", STAYS, session)

    assert told == f"worker ended: exit status {status}. It starts again with the next edit."
    assert pid(session, "worker")
    assert pid(session, "web") != web
    assert session.lines.count("worker | bye") == 1


def test_what_ran_for_a_while_is_started_again_once(run: Run, is_gone: IsGone) -> None:
    session = run(
        worker="import os, time; print('pid', os.getpid()); time.sleep(0.3)", STEADY_SECONDS="0.1"
    )
    web = pid(session, "web")

    first, second = pid(session, "worker"), pid(session, "worker")

    assert first != second
    assert session.line("worker ended").endswith("exit status 0. Starting it again.")
    session.line("worker ended: exit status 0. It starts again with the next edit.")
    os.kill(web, 0)


def test_what_is_killed_is_started_again_once(run: Run) -> None:
    session = run()
    killed = pid(session, "web")
    os.kill(killed, signal.SIGKILL)
    session.line("web ended: killed by SIGKILL. Starting it again.")
    revived = pid(session, "web")

    os.kill(revived, signal.SIGKILL)

    assert revived != killed
    session.line("web ended: killed by SIGKILL. It starts again with the next edit.")


def test_a_port_that_another_program_has_is_waited_for(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        session = run(PORT=str(port))
        pid(session, "worker")
        told = session.line(f"Port {port} is in use.")

    assert told.endswith("Else web starts as soon as it is free.")
    assert pid(session, "web")
    assert len([line for line in session.lines if "is in use" in line]) == 1


FAILS = """
import re
re.sub("x", lambda found: no_such, "x")
"""
LIVES_ON = f"""
import traceback
try:
    1 / 0
except ZeroDivisionError:
    traceback.print_exc()
{STAYS}
"""


def test_the_traceback_of_a_start_is_told_in_one_line(run: Run) -> None:
    session = run(web=FAILS)

    session.line("web ended: exit status 1.")

    assert [line for line in session.lines if line.startswith("web    |")] == [
        "web    | web.py:3: NameError: name 'no_such' is not defined"
    ]


def test_the_traceback_of_what_lives_on_is_shown_as_it_is(run: Run) -> None:
    session = run(web=LIVES_ON)

    session.line("web    | Traceback (most recent call last):")

    session.line("web    | ZeroDivisionError: division by zero")
    assert pid(session, "web")


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


def test_a_broken_procfile_changes_nothing(run: Run, tmp_path: Path) -> None:
    session = run()
    worker = pid(session, "worker")

    (tmp_path / "Procfile").write_bytes(b"web: \xff\n")

    session.line("cannot be used")
    os.kill(worker, 0)


def test_what_the_procfile_does_not_name_is_started_by_default(tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text("release: migrate\nweb: serve\n")

    assert read_procfile(tmp_path / "Procfile", {"web": "a", "worker": "b"}) == {
        "web": "serve",
        "worker": "b",
    }
    assert read_procfile(tmp_path / "nowhere", {"web": "a"}) == {"web": "a"}


def test_code_in_a_new_directory_is_noticed(run: Run, tmp_path: Path) -> None:
    session = run()
    pid(session, "worker")
    (tmp_path / "apps" / "orders").mkdir(parents=True)
    (tmp_path / "apps" / "orders" / "models.py").touch()

    def is_noticed() -> bool:
        (tmp_path / "apps" / "orders" / "models.py").write_text("")
        return any("apps/orders/models.py changed" in line for line in session.lines)

    eventually(is_noticed)


def test_other_files_restart_nothing(run: Run, tmp_path: Path) -> None:
    session = run()
    before = pid(session, "worker")
    for name in ("notes.md", "code.pyc", ".code.py.swp", "code.py~"):
        (tmp_path / "tasks" / name).touch()

    edit(tmp_path / "tasks" / "page.html", "", session)

    assert pid(session, "worker") != before
    assert [line for line in session.lines if "changed" in line] == ["tasks/page.html changed"]


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
