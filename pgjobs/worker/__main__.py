"""What `manage.py jobs worker` becomes: Procrastinate's command, in a project that is set up.

So the project's own logging is there before the command would set up one.
"""

import django

django.setup()

from procrastinate import cli  # Django comes first

if __name__ == "__main__":
    cli.main()  # type: ignore[no-untyped-call]
