"""`manage.py pg`: the embedded Postgres of this checkout, for development and tests."""

import os
import signal
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

from django.core.management.base import BaseCommand, CommandError

from pgjobs.dev import project
from pgjobs.dev.become import become
from pgjobs.dev.binaries import installed_binaries
from pgjobs.dev.errors import DevError, ProductionRefusedError
from pgjobs.dev.postgres import PostgresServer
from pgjobs.dev.postgres_errors import NotRunningError
from pgjobs.dev.process import spawn
from pgjobs.dev.template import Template

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

# What works on a server of yours too; the rest is for the embedded one, never in production.
ALLOWED_IN_PRODUCTION = ("url", "psql")


class Command(BaseCommand):
    help = "Run, inspect and reset the embedded Postgres of this checkout."
    # No database is needed, and often none runs yet.
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        run = actions.add_parser(
            "run", help="run the server until Ctrl-C, or for the time of a command"
        )
        run.add_argument(
            "--throwaway",
            action="store_true",
            help="a fast server in a fresh directory that is removed at the end; besides an empty "
            "database it has jobs_template, migrated",
        )
        run.add_argument(
            "command",
            nargs="*",
            help="after --: a command to run with DATABASE_URL set; its exit status is ours",
        )
        actions.add_parser("status", help="say whether the server runs and where it is")
        # Another prefix: what looks like an option is psql's.
        psql = actions.add_parser(
            "psql", help="open psql on the server", prefix_chars="\0", add_help=False
        )
        psql.add_argument("arguments", nargs="*", help="arguments of psql")
        actions.add_parser("url", help="print the URL of the running server, for DATABASE_URL")
        reset = actions.add_parser("reset", help="delete the data of the server")
        reset.add_argument("--yes", action="store_true", help="do not ask")

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        try:
            if project.is_production() and action not in ALLOWED_IN_PRODUCTION:
                raise ProductionRefusedError
            getattr(self, f"_{action}")(**options)
        except (DevError, OSError) as error:
            raise CommandError(str(error)) from error

    def _run(self, *, throwaway: bool, command: list[str], **_: Any) -> None:
        if project.own_database() is not None:
            self._run_on_own_server(command)
        server = _throwaway() if throwaway else _server()
        with _restored_stop_signals():
            # Ends the start; what was started is stopped on the way out.
            _on_stop_signals(_exit)
            with server.running() as url:
                if not command:
                    self._run_in_foreground(server, url)
                status = _run_command(command, url)
        sys.exit(status)

    def _run_on_own_server(self, command: list[str]) -> NoReturn:
        note = "DATABASE_URL or PG* names a server: that one is used and none is started."
        if not command:
            raise CommandError(note)
        self.stderr.write(note, self.style.NOTICE)
        self._become(command)

    def _run_in_foreground(self, server: PostgresServer, url: str) -> NoReturn:
        self.stdout.write(f"Postgres runs until Ctrl-C: {url}\nIts log: {server.home.log}")
        self.stdout.flush()
        _on_stop_signals(_exit_as_asked)
        server.process.wait()
        raise server.ended()

    def _status(self, **_: Any) -> None:
        server = _server()
        facts = server.facts()
        lines = {
            "server": f"running, pid {facts.pid}" if facts else "not running",
            "version": facts.version if facts else installed_binaries().version,
            "data directory": server.home.data,
            "socket directory": server.home.sockets,
        }
        if server.home.shared_directory:
            lines["outside the checkout"] = server.home.shared_directory
        lines["url"] = server.home.url()
        for name, value in lines.items():
            self.stdout.write(f"{name + ':':<22}{value}")
        if project.own_database() is not None:
            self.stderr.write("DATABASE_URL or PG* names another server: that one is used.")
        sys.exit(0 if facts else 1)

    def _psql(self, *, arguments: list[str], **_: Any) -> None:
        if (url := project.own_database()) is not None:
            target = [f"--dbname={url}"] if url else []
            self._become(["psql", *target, *arguments])
        psql = installed_binaries().program("psql")
        self._become([psql, f"--dbname={_running_url()}", *arguments])

    def _url(self, **_: Any) -> None:
        if (url := project.own_database()) is not None:
            self.stdout.write(url or "postgresql://")
        else:
            self.stdout.write(_running_url())

    def _reset(self, *, yes: bool, **_: Any) -> None:
        server = _server()
        if not yes and input(f"Delete all data in {server.home.data}? [y/N] ").lower() != "y":
            raise CommandError("Nothing was deleted.")
        server.reset()
        self.stdout.write(f"Deleted {server.home.data}.")

    def _become(self, program: list[str]) -> NoReturn:
        """Replace this process, which then has the status and the signals of `program`."""
        self.stdout.flush()
        self.stderr.flush()
        become(program)


def _server() -> PostgresServer:
    return PostgresServer.for_checkout(project.root())


def _throwaway() -> PostgresServer:
    return PostgresServer.throwaway(Template(project.root()).copy_to)


def _running_url() -> str:
    server = _server()
    if not server.facts():
        raise NotRunningError
    return server.home.url()


def _run_command(command: list[str], url: str) -> int:
    """Run `command` with DATABASE_URL, pass stop signals on, and return its status as a shell's."""
    # The wheel's programs come first: a pg_dump refuses to dump a server newer than itself.
    path = f"{installed_binaries().directory}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    environment = {**os.environ, "DATABASE_URL": url, "PATH": path}
    # Ours, as of a command: the child may be a worker or a web server.
    environment.pop("PROCESS_ROLE", None)
    child = spawn(command, death_signal=signal.SIGTERM, env=environment)

    def pass_on(number: int, frame: FrameType | None) -> None:
        # To its whole group, as the terminal would have done.
        with suppress(ProcessLookupError):
            os.killpg(child.pid, number)

    _on_stop_signals(pass_on)
    status = child.wait()
    _on_stop_signals(_ignore)
    return status if status >= 0 else 128 - status


@contextmanager
def _restored_stop_signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _on_stop_signals(handler: Callable[[int, FrameType | None], object]) -> None:
    for number in STOP_SIGNALS:
        signal.signal(number, handler)


def _exit(number: int, frame: FrameType | None) -> NoReturn:
    _on_stop_signals(_ignore)
    sys.exit(128 + number)


def _exit_as_asked(number: int, frame: FrameType | None) -> NoReturn:
    _on_stop_signals(_ignore)
    sys.exit(0)


def _ignore(number: int, frame: FrameType | None) -> None:
    """Nothing shall interrupt the stop, however impatiently it is asked for."""
