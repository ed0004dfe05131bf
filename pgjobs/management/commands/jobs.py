"""`manage.py jobs`: what a project does with its jobs from a shell."""

import os
import sys
from argparse import REMAINDER, SUPPRESS, ArgumentParser
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from django.core.management.base import BaseCommand, CommandError

from pgjobs.conf import conf
from pgjobs.installing import missing_pieces
from pgjobs.observe.records import FORMAT


class Command(BaseCommand):
    help = "Set a project up for jobs, and work them."
    # The worker checks what it needs itself, and waits for a database that is away.
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        init = actions.add_parser("init", help="show the lines that the project lacks")
        init.add_argument("--apply", action="store_true", help="write them into its files")
        init.add_argument("--api", action="store_true", help="those of the HTTP API as well")
        init.add_argument(
            "--worker-package", action="store_true", help="a package `tasks` for the worker's code"
        )
        worker = actions.add_parser(
            "worker", help="work jobs until it is told to stop", prefix_chars="\0", add_help=False
        )
        worker.add_argument("arguments", nargs=REMAINDER, help="options of `procrastinate worker`")
        dev = actions.add_parser(
            "dev", help="run Postgres, web and worker here, and restart them after each edit"
        )
        # How a session asks a process of its own to load the project.
        dev.add_argument("--report-to", type=int, help=SUPPRESS)
        dev.add_argument("--port", type=int, help=SUPPRESS)
        dev.add_argument("changed", nargs="*", help=SUPPRESS)

    def run_from_argv(self, argv: list[str]) -> None:
        """Run with Django's options in front of the action: it takes them behind any command."""
        django = ArgumentParser(add_help=False, allow_abbrev=False)
        for name in ("--settings", "--pythonpath"):
            django.add_argument(name)
        given, others = django.parse_known_args(argv[2:])
        options = [f"--{name}={value}" for name, value in vars(given).items() if value]
        super().run_from_argv([*argv[:2], *options, *others])

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        getattr(self, f"_{action}")(**options)

    def _init(self, *, apply: bool, api: bool, worker_package: bool, **_: Any) -> None:
        pieces = missing_pieces(api=api, worker_package=worker_package)
        if not pieces:
            self.stdout.write("Nothing is missing.")
        for piece in pieces:
            self.stdout.write(f"# {'Written to' if apply else 'To'} {piece.path}:\n{piece.lines}")
            if apply:
                piece.write()

    def _worker(self, *, arguments: list[str], pythonpath: str | None, **_: Any) -> NoReturn:
        """Become the library's command, which has the signals and the status of this process."""
        program = [sys.executable, "-m", "pgjobs.worker", f"--app={conf.JOBS_WORKER_APP}", "worker"]
        # Ours is that of a command; a project may give workers other settings by it.
        environment = {**_environment(pythonpath), "PROCESS_ROLE": "worker"}
        # For a project whose logging has no handlers: Procrastinate's command then sets up some.
        environment.setdefault("PROCRASTINATE_LOG_FORMAT", FORMAT)
        self._become([*program, *arguments], environment)

    def _dev(
        self,
        *,
        report_to: int | None,
        port: int | None,
        changed: list[str],
        pythonpath: str | None,
        no_color: bool,
        **_: Any,
    ) -> None:
        """Become a session; for one that runs, load the project."""
        if report_to is not None:
            _optional("load").run(report_to, port=port, changed=changed)
            return
        _optional("session")
        environment = _environment(pythonpath)
        # Ours is that of a command; each process of the session sets its own.
        environment.pop("PROCESS_ROLE", None)
        if no_color:
            environment["NO_COLOR"] = "1"
        root = Path(sys.argv[0]).absolute().parent
        if (root / "manage.py").is_file():  # not django-admin's
            os.chdir(root)
        self._become([sys.executable, "-m", "pgjobs.dev"], environment)

    def _become(self, program: list[str], environment: dict[str, str]) -> NoReturn:
        self.stdout.flush()
        self.stderr.flush()
        # The interpreter of this command, without a shell: what a person could type.
        os.execve(sys.executable, program, environment)  # noqa: S606 # nosec B606


def _optional(name: str) -> ModuleType:
    """Return a module of pgjobs.dev, which is above this room and may not be installed."""
    try:
        return import_module(f"pgjobs.dev.{name}")
    except ModuleNotFoundError as error:
        hint = 'pip install "django-pgjobs[dev]"'
        raise CommandError(f"{error.name} is not installed: {hint}") from error


def _environment(added: str | None) -> dict[str, str]:
    """Return our environment, in which a process finds the project from wherever it is started."""
    paths = [*_first_paths(added), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def _first_paths(added: str | None) -> Iterator[str]:
    """Return what --pythonpath added, and the directory of manage.py, which Python put first."""
    for path in sys.path:
        yield os.path.abspath(path)  # noqa: PTH100
        if path != added:
            return
