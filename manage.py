#!/usr/bin/env python
"""Django's command line for this project."""

import os
import sys


def main() -> None:
    """Run the management command named on the command line."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "myproj.settings")
    # Database behaviour differs by entry point (myproj/database.py).
    os.environ.setdefault("PROCESS_ROLE", "migrate" if "migrate" in sys.argv[1:2] else "command")

    from django.core.management import execute_from_command_line  # noqa: PLC0415 # role first
    from django.db import DatabaseError, OperationalError  # noqa: PLC0415

    try:
        execute_from_command_line(sys.argv)
    except DatabaseError as error:
        refused_by = getattr(error.__cause__, "sqlstate", None)
        if "--traceback" in sys.argv:
            raise
        if refused_by and os.environ["PROCESS_ROLE"] == "migrate":
            sys.exit(_MIGRATE_FAILED.format(words=str(error).strip(), state=refused_by))
        if refused_by or not isinstance(error, OperationalError):
            raise
        sys.exit(_NO_DATABASE.format(words=str(error).strip()))


_MIGRATE_FAILED = """migrate stopped: {words} (SQLSTATE {state})
Migrations that ran before it are kept. Mend the cause and run it again. SQLSTATE 55P03 means that
another session holds a lock: wait until it is done. --traceback shows where it stopped."""

_NO_DATABASE = """The database cannot be used: {words}
Set DATABASE_URL to a server that runs, or start this checkout's own: manage.py pg run (or make \
run)."""


if __name__ == "__main__":
    main()
