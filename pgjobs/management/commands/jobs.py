"""`manage.py jobs`: what a project does with its jobs from a shell."""

import os
import sys
from argparse import REMAINDER, ArgumentParser
from typing import Any, NoReturn

from django.core.management.base import BaseCommand

from pgjobs.conf import conf
from pgjobs.observe.records import FORMAT


class Command(BaseCommand):
    help = "Work jobs: `manage.py jobs worker` is `procrastinate --app=... worker`."
    # The worker checks what it needs itself, and waits for a database that is away.
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        worker = actions.add_parser(
            "worker", help="work jobs until it is told to stop", prefix_chars="\0", add_help=False
        )
        worker.add_argument("arguments", nargs=REMAINDER, help="options of `procrastinate worker`")

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        getattr(self, f"_{action}")(**options)

    def _worker(self, *, arguments: list[str], **_: Any) -> NoReturn:
        """Become the library's command, which has the signals and the status of this process."""
        program = [sys.executable, "-m", "pgjobs.worker", f"--app={conf.JOBS_WORKER_APP}", "worker"]
        self.stdout.flush()
        self.stderr.flush()
        # The interpreter of this command, without a shell: what a person could type.
        os.execve(sys.executable, [*program, *arguments], _environment())  # noqa: S606 # nosec B606


def _environment() -> dict[str, str]:
    """Return the environment of a worker: it finds the project from wherever it is started."""
    # The directory of manage.py, which Python put first.
    paths = [os.path.abspath(sys.path[0]), os.environ.get("PYTHONPATH", "")]  # noqa: PTH100
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    # For a project whose logging has no handlers: Procrastinate's command then sets up some.
    environment.setdefault("PROCRASTINATE_LOG_FORMAT", FORMAT)
    # Ours is that of a command; a project may give workers other settings by it.
    return {**environment, "PROCESS_ROLE": "worker"}
