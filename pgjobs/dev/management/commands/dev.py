"""`manage.py dev`: the whole project on this machine, by one command; see pgjobs/dev/session.py."""

from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = (
        "Start Postgres, the web and worker processes, send one demo job through the API, print "
        "how to go on, and restart the processes after each edit until Ctrl-C."
    )
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        call_command("jobs", "dev", no_color=options["no_color"])
