"""The campaign's workers: `procrastinate --app=tests.faults.campaign.worker.app worker`.

FAULTS_TWIN names a way in which the engine is broken on purpose, to see that the harness tells.
"""

import os

import tasks  # noqa: F401 # sets Django up
from myapp.jobs.bridge import specs_in
from tasks.engine.app import JobsApp
from tests.faults.campaign import menu, twins

app = JobsApp(specs=specs_in(vars(menu)), import_paths=["tests.faults.campaign.functions"])

if twin := os.environ.get("FAULTS_TWIN"):
    twins.break_engine(twin)
