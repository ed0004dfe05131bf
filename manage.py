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
    from django.db import OperationalError  # noqa: PLC0415

    try:
        execute_from_command_line(sys.argv)
    except OperationalError as error:
        sys.exit(
            f"The database cannot be used: {str(error).strip()}\n"
            "Set DATABASE_URL to a server that runs, or start this checkout's own: "
            "manage.py pg run (or make run)."
        )


if __name__ == "__main__":
    main()
