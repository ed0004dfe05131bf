"""The worker's app of a project that has no worker package of its own (JOBS_WORKER_APP).

It implements what apps declare in `<app>/tasks.py`, in `<app>/worker.py` or there.
"""

import django
from django.apps import apps

if not apps.ready:
    django.setup()

from pgjobs.defer.discovery import declared_specs, worker_modules  # Django comes first
from pgjobs.worker.app import JobsApp

app = JobsApp(specs=declared_specs(), import_paths=worker_modules())
