"""`manage.py procrastinate`: the library's command; it defers our tasks and starts no worker."""

import asyncio
import os
import shutil
import sys
from typing import Any

from django.core.management.base import CommandError
from django.utils.module_loading import import_string
from procrastinate import cli
from procrastinate.contrib.django.management.commands import procrastinate

from pgjobs.conf import conf


class Command(procrastinate.Command):
    """Refuses to start a worker; defers with the worker's app, which knows our tasks."""

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the library's command.

        Raises:
            CommandError: a worker was asked for; it names the line that starts one.
        """
        module = conf.JOBS_WORKER_APP
        if options.get("command") == "worker":
            raise CommandError(
                "This worker would end jobs without running them: it knows none of their tasks."
                f" Nothing was started. Start a worker by: {_program()} --app={module} worker"
                " (or manage.py jobs worker)"
            )
        if options.get("command") == "defer":
            given = {name: options[name] for name in options.keys() - self._django_options}
            asyncio.run(cli.execute_command({**given, "app": import_string(module)}))
        else:
            super().handle(*args, **options)


def _program() -> str:
    """Return what a person types for the library's command: it may be in .venv/bin alone."""
    found = shutil.which("procrastinate")
    return "procrastinate" if found else os.path.relpath(f"{sys.prefix}/bin/procrastinate")
