"""Workers that run the zoo: `procrastinate --app=tests.faults.campaign.zoo_worker.app worker`."""

import os

from zoo_samples import app

from tests.faults.campaign import twins

__all__ = ["app"]

if twin := os.environ.get("FAULTS_TWIN"):
    twins.break_engine(twin)
