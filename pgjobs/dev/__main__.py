"""A development session of the project in this directory: `python -m pgjobs.dev`.

`manage.py jobs dev` becomes it. By itself it starts even while the settings cannot be loaded.
"""

import sys
from pathlib import Path

import psycopg
from django.conf import settings

from pgjobs.dev.console import Console, shows_colours
from pgjobs.dev.errors import DevError
from pgjobs.dev.session import run_session
from pgjobs.dev.stopping import StopRequested, stop_on_signals
from pgjobs.dev.terminal import session_terminal


def main() -> None:
    """Run the session until it is stopped; exits with 1 and the reason where it cannot start."""
    stop_on_signals()
    # Ours, whatever the environment names: those of the project are for its processes.
    settings.configure(USE_I18N=False)
    root = Path.cwd()
    terminal = session_terminal(root)
    console = Console(sys.stdout, colours=shows_colours(sys.stdout), terminal=terminal)
    try:
        run_session(root, console, terminal)
    except StopRequested:
        console.line("Stopped.")
    except (DevError, OSError, psycopg.Error) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
