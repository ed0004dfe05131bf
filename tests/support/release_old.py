"""The release before: workers run as `release_old.app`; see release_new for what changed."""

import os
import re
from typing import Any

import tasks  # noqa: F401 # sets Django up when this is a worker's app
from pgjobs.defer.bridge import declare, specs_in
from pgjobs.worker.app import JobsApp
from pgjobs.worker.complete import manager


@declare(queue="releases")
def greet(name: str) -> None:
    """Take one argument."""


@declare(queue="releases")
def wave(name: str) -> None:
    """Be removed by the next release."""


app = JobsApp(specs=specs_in(globals()), import_paths=[])


@app.implements(greet)
def _greet(*, name: str) -> dict[str, Any]:
    return {"by": os.getpid(), "name": name}


@app.implements(wave)
def _wave(*, name: str) -> dict[str, Any]:
    return {"by": os.getpid(), "name": name}


if os.environ.get("RELEASE_IS_GREEDY"):
    # Known to be bad: a worker that claims whatever there is.
    manager.CLAIM_SQL, places = re.subn(
        r"\w+\.task_name = ANY\(%\(names\)s\)", "true", manager.CLAIM_SQL
    )
    assert places == 3
