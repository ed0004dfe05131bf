"""The project's settings, with routes and tasks that take a secret and lose it if they can."""

import os

from sample.settings import *  # noqa: F403

ROOT_URLCONF = "canary_urls"
JOBS_WORKER_APP = "canary_samples.app"

if os.environ.get("CANARY_TWIN") == "no_redaction":
    from pgjobs.observe import redaction

    vars(redaction)["Secrets"].hide = lambda _self, text: text
