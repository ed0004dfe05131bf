"""The project's settings with the shop installed; `--ds` in pyproject.toml names them."""

import os

from myproj.settings import *  # noqa: F403 # all of them
from myproj.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "sample"]
ROOT_URLCONF = "sample.site_urls"
JOBS_DEV_DEMO = "sample.demo"
JOBS_THROTTLE_SUBSCRIPTIONS_PER_HOUR = int(
    os.environ.get("JOBS_THROTTLE_SUBSCRIPTIONS_PER_HOUR", "20")
)
