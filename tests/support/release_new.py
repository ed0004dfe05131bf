"""The next release: one task more, one less, one with another argument."""

import os
from typing import Any

import tasks  # noqa: F401 # sets Django up when this is a worker's app
from pgjobs.defer.bridge import declare, specs_in
from pgjobs.worker.app import JobsApp


@declare(queue="releases")
def greet(name: str, language: str) -> None:
    """Take another argument."""


@declare(queue="releases")
def archive(name: str) -> None:
    """Be new in this release."""


app = JobsApp(specs=specs_in(globals()), import_paths=[])


@app.implements(greet)
def _greet(*, name: str, language: str) -> dict[str, Any]:
    return {"by": os.getpid(), "name": name, "language": language}


@app.implements(archive)
def _archive(*, name: str) -> dict[str, Any]:
    return {"by": os.getpid(), "name": name}
