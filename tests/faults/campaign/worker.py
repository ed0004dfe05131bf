"""The campaign's workers: `procrastinate --app=tests.faults.campaign.worker.app worker`.

FAULTS_TWIN names a way in which the engine is broken on purpose, to see that the harness tells.
FAULTS_HORIZON is after how many seconds, and dead rows, it says who holds up vacuum; with as many
its claims begin at floors.
"""

import os

import tasks  # noqa: F401 # sets Django up
from pgjobs.defer.bridge import specs_in
from pgjobs.worker.app import JobsApp
from pgjobs.worker.claim import horizon
from tests.faults.campaign import menu, twins

app = JobsApp(specs=specs_in(vars(menu)), import_paths=["tests.faults.campaign.functions"])

if limits := os.environ.get("FAULTS_HORIZON"):
    seconds, rows = limits.split()
    horizon.ALARM_SECONDS = float(seconds)
    horizon.ALARM_DEAD_ROWS = horizon.MANY_DEAD_ROWS = int(rows)
if twin := os.environ.get("FAULTS_TWIN"):
    twins.break_engine(twin)
