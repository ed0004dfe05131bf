"""What `manage.py jobs worker` becomes: Procrastinate's command, in a project that is set up.

So the project's own logging is there before the command would set up one.
"""

import django
from django.utils.module_loading import import_string

django.setup()

from procrastinate import cli  # Django comes first

from pgjobs.conf import conf

if __name__ == "__main__":
    # The command says that an app cannot be loaded, and not why.
    import_string(conf.JOBS_WORKER_APP)
    cli.main()  # type: ignore[no-untyped-call]
