"""The worker that is measured: `procrastinate --app=benchmarks.ours.worker.app worker`."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "myproj.settings")
os.environ.setdefault("PROCESS_ROLE", "worker")

import django

django.setup()

from benchmarks.ours import menu
from pgjobs.defer.bridge import specs_in
from pgjobs.worker.app import JobsApp

app = JobsApp(specs=specs_in(vars(menu)), import_paths=["benchmarks.ours.functions"])
