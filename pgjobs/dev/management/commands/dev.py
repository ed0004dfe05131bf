"""`manage.py dev`: the whole project on this machine, by one command."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NoReturn

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connections

from pgjobs.dev import project
from pgjobs.dev.client import ApiClient
from pgjobs.dev.console import Console
from pgjobs.dev.demo import Demo
from pgjobs.dev.errors import DevError, ProductionRefusedError
from pgjobs.dev.launcher import Launcher
from pgjobs.dev.port import choose_port, require_free_port
from pgjobs.dev.postgres import AlreadyRunningError, PostgresServer
from pgjobs.dev.stopping import StopRequested, stop_on_signals
from pgjobs.dev.summary import summary
from pgjobs.dev.superuser import new_token, session_superuser
from pgjobs.dev.watcher import Edits, watching

# The lines of the Procfile that stay up; `release` is what this command does itself.
PROCESSES = ("web", "worker")


class Command(BaseCommand):
    help = (
        "Start Postgres, the web and worker processes, send one demo job through the API, print "
        "how to go on, and restart the processes after each edit until Ctrl-C."
    )
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        stop_on_signals()
        colours = self.stdout.isatty() and not options["no_color"]
        console = Console(self.stdout, colours=colours)
        try:
            _run_session(console)
        except StopRequested:
            console.line("Stopped.")
        except DevError as error:
            raise CommandError(str(error)) from error
        except DatabaseError as error:
            raise CommandError(f"The database failed: {error}") from error


def _run_session(console: Console) -> NoReturn:
    if project.is_production():
        raise ProductionRefusedError
    port = choose_port(project.root() / ".env")
    require_free_port(port)
    edits: Edits = SimpleQueue()
    with (
        _postgres(console) as (url, server),
        watching(project.root(), edits, console),
        _launcher(console, port=port, database_url=url) as launcher,
    ):
        if server:
            launcher.watch_over("postgres", server.process, last_words=server.log_end)
        _demonstrate(console, launcher, port=port)
        launcher.run(edits)


@contextmanager
def _postgres(console: Console) -> Iterator[tuple[str, PostgresServer | None]]:
    """Yield the URL of the embedded Postgres, while it runs, and the server if we started it.

    The URL is "" where the environment names a server.
    """
    with ExitStack() as stack:
        url, server = "", None
        if project.own_database() is None:
            url, server = _enter_embedded(stack, console)
        # A server that stops shall find no connection of ours.
        stack.callback(connections.close_all)
        yield url, server


def _enter_embedded(stack: ExitStack, console: Console) -> tuple[str, PostgresServer | None]:
    server = PostgresServer.for_checkout(project.root())
    console.line("Starting Postgres.")
    try:
        return stack.enter_context(server.running()), server
    except AlreadyRunningError as other:
        console.line("It runs already: using it, and leaving it up.")
        return other.url, None


def _launcher(console: Console, *, port: int, database_url: str) -> Launcher:
    programs = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PORT": str(port),
        "WEB_HOST": os.environ.get("WEB_HOST") or "127.0.0.1",
        "PYTHONUNBUFFERED": "1",
    }
    environment.setdefault("JOBS_PUBLIC_URL", f"http://localhost:{port}")
    if database_url:
        environment["DATABASE_URL"] = database_url
    # Ours is "command": each process sets its own.
    environment.pop("PROCESS_ROLE", None)
    return Launcher(PROCESSES, root=project.root(), environment=environment, console=console)


def _demonstrate(console: Console, launcher: Launcher, *, port: int) -> None:
    """Migrate, start web and worker, follow the demo job, and print how to go on."""
    console.line("Migrating the database.")
    call_command("migrate", interactive=False, verbosity=0)
    superuser = session_superuser(project.root() / "var" / "demo-password")
    token = new_token(superuser.user)
    api = ApiClient(port=port, token=token)

    console.line(f"Starting web on port {port}, then worker.")
    launcher.start("web")
    api.wait_until_ready(launcher.check)
    shown = None
    if job := project.demo_job():
        demo = Demo(job, api, console, check=launcher.check)
        shown = job, demo.run(start_worker=lambda: launcher.start("worker"))
    else:
        launcher.start("worker")
    connections.close_all()
    console.block(summary(port=port, superuser=superuser, token=token, shown=shown))
