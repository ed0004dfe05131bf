"""The worker: `procrastinate --app=tasks.app worker`. Imported by nobody but tests and checks."""

import os
import pkgutil

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "myproj.settings")
os.environ.setdefault("PROCESS_ROLE", "worker")

import django
from django.apps import apps

if not apps.ready:
    django.setup()

from myapp import tasks as menu  # Django comes first
from pgjobs.defer.discovery import declared_specs, worker_modules
from pgjobs.worker.app import JobsApp

# Every module beside this one holds task functions.
_task_modules = [f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__)]

app = JobsApp(specs=declared_specs(menu), import_paths=[*_task_modules, *worker_modules()])
