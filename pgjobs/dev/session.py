"""A development session: Postgres, web and worker of a project, restarted after edits.

Nothing of the project is loaded here, so nothing in it can end the session. After each edit a
process of its own loads the project (loader.py). While that fails, whatever runs goes on as it was.
"""

import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NoReturn

from pgjobs.dev.child import describe_exit
from pgjobs.dev.console import Console
from pgjobs.dev.errors import ManageMissingError, ProductionRefusedError
from pgjobs.dev.keeping import KeptPostgres, News
from pgjobs.dev.launcher import Launcher
from pgjobs.dev.loader import Loader
from pgjobs.dev.port import choose_port, require_free_port
from pgjobs.dev.procfile import read_procfile
from pgjobs.dev.terminal import Terminal
from pgjobs.dev.watcher import Edits, watching

# How often it is looked whether a process has ended.
TICK_SECONDS = 0.1
NEXT_EDIT = "The next edit tries again."
# A variable that processes of a session find in their environment.
SESSION = "PGJOBS_SESSION"


def run_session(root: Path, console: Console, terminal: Terminal | None) -> NoReturn:
    """Run the project whose manage.py is in `root` until a signal stops it.

    Raises:
        DevError: it cannot be started; the text says why and what to do.
        StopRequested: by a signal.
    """
    if not (root / "manage.py").is_file():
        raise ManageMissingError(root=root)
    port = choose_port(root / ".env")
    require_free_port(port)
    environment = _environment(root, port, terminal)
    edits: Edits = SimpleQueue()
    with ExitStack() as stack:
        launcher = Launcher(
            lambda: read_procfile(root / "Procfile", _default_commands(port)),
            root=root,
            environment=environment,
            console=console,
            require_port=lambda name: require_free_port(port) if name == "web" else None,
        )
        session = _Session(root, console, launcher, port=port, environment=environment)
        stack.callback(session.stop)
        stack.enter_context(watching(root, edits, console))
        stack.enter_context(launcher)
        session.run(edits)


class _Session:
    def __init__(
        self,
        root: Path,
        console: Console,
        launcher: Launcher,
        *,
        port: int,
        environment: dict[str, str],
    ) -> None:
        self._root = root
        self._console = console
        self._launcher = launcher
        self._port = port
        self._environment = environment
        self._postgres: KeptPostgres | None = None
        self._loader: Loader | None = None
        # Edited since the project was loaded last.
        self._changed: set[str] = set()
        # Of the present loader: whether it said why it fails, and had a process started.
        self._said_why = self._has_started = False
        # Whether the start has been gone through: migrations, processes, the demo job.
        self._is_shown = False

    def run(self, edits: Edits) -> NoReturn:
        self._console.line("Loading the project.")
        self._load()
        while True:
            self._look_after_postgres()
            self._hear_loader()
            self._launcher.look()
            self._take(edits)

    def stop(self) -> None:
        self._end_loader()
        if self._postgres:
            self._postgres.stop()

    def _take(self, edits: Edits) -> None:
        """Load the project again after an edit; returns after a tick without one."""
        try:
            paths = edits.get(timeout=TICK_SECONDS)
        except Empty:
            return
        if self._is_shown and not (self._changed or self._loader) and _is_read_when_used(paths):
            self._console.line(f"{_in_short(paths)} changed: {self._restarting()}")
            self._launcher.restart()
            return
        self._changed.update(paths)
        self._console.line(f"{_in_short(paths)} changed: loading the project.")
        self._load()

    def _load(self) -> None:
        self._end_loader()
        self._said_why = self._has_started = False
        changed = sorted(self._changed)
        self._loader = Loader(
            self._root, port=self._port, changed=changed, environment=self._environment
        )

    def _hear_loader(self) -> None:
        loader = self._loader
        if loader is None:
            return
        exit_code = loader.exit_code()
        for kind, value in loader.messages():
            self._obey(loader, kind, value)
        if exit_code is not None:
            self._loader = None
            self._loaded() if exit_code == 0 else self._failed(loader, exit_code)

    def _obey(self, loader: Loader, kind: str, value: Any) -> None:
        match kind:
            case "facts":
                self._meet(value)
                loader.answer("restart" if self._is_shown else "show")
            case "lines":
                self._console.block(value)
            case "error":
                self._console.error(value)
                self._said_why = True
            case "start":
                self._has_started = True
                self._launcher.start(value)
                loader.answer("started")

    def _meet(self, facts: dict[str, Any]) -> None:
        """Bring what the project needs before it can be shown."""
        if facts["is_production"]:
            raise ProductionRefusedError
        if facts["root"] and self._postgres is None:
            postgres = KeptPostgres(Path(facts["root"]), self._console)
            postgres.start()
            self._postgres = postgres

    def _loaded(self) -> None:
        self._changed.clear()
        if self._is_shown:
            self._console.line(self._restarting().capitalize())
            self._launcher.restart()
        self._is_shown = True

    def _failed(self, loader: Loader, exit_code: int) -> None:
        """Say why, unless that was said; whatever runs goes on."""
        if not self._said_why:
            self._console.error([*loader.last_words(), f"It ended: {describe_exit(exit_code)}."])
        if self._has_started:
            # Too late for the code to be at fault: the demo job was.
            self._launcher.start_missing()
        running = " and ".join(self._launcher.running)
        self._console.line(f"{running} run as before. {NEXT_EDIT}" if running else NEXT_EDIT)

    def _restarting(self) -> str:
        return f"restarting {' and '.join(self._launcher.names)}."

    def _end_loader(self) -> None:
        if self._loader:
            self._loader.stop()
            self._loader = None

    def _look_after_postgres(self) -> None:
        news = self._postgres.look() if self._postgres else None
        if news is News.LOST:
            self._end_loader()
            self._launcher.stop()
        elif news is News.EMPTY:
            self._is_shown = False
            self._load()
        elif news is News.BACK:
            self._launcher.start_missing() if self._is_shown else self._load()


def _is_read_when_used(paths: Sequence[str]) -> bool:
    """Tell whether no edit is of code or settings: templates and the like cannot break a start."""
    return all(Path(path).suffix not in ("", ".py") for path in paths)


def _default_commands(port: int) -> dict[str, str]:
    """Return what web and worker are where the Procfile does not say it."""
    manage = f"{shlex.quote(sys.executable)} manage.py"
    return {
        # The project was checked already, and restarts are ours.
        "web": f"{manage} runserver --noreload --skip-checks 127.0.0.1:{port}",
        "worker": f"{manage} jobs worker",
    }


def _environment(root: Path, port: int, terminal: Terminal | None) -> dict[str, str]:
    """Return the environment of all processes of the session."""
    ours = dict(os.environ)
    # Ours is "command": each process sets its own.
    ours.pop("PROCESS_ROLE", None)
    ours["PATH"] = _joined(str(Path(sys.executable).parent), ours.get("PATH") or os.defpath)
    # Scripts such as `procrastinate` do not look where they are started.
    ours["PYTHONPATH"] = _joined(str(root), ours.get("PYTHONPATH", ""))
    ours["WEB_HOST"] = ours.get("WEB_HOST") or "127.0.0.1"
    ours["DJANGO_RUNSERVER_HIDE_WARNING"] = "true"
    ours |= {"PORT": str(port), "PYTHONUNBUFFERED": "1", SESSION: "1"}
    return {**(terminal.variables() if terminal else {}), **ours}


def _joined(first: str, more: str) -> str:
    return os.pathsep.join(filter(None, (first, more)))


def _in_short(paths: Sequence[str]) -> str:
    more = len(paths) - 1
    return f"{paths[0]} and {more} more" if more else paths[0]
