"""The project that the development commands serve, as its settings describe it."""

from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from django.conf import settings

from pgjobs.conf import conf


class DemoJob(Protocol):
    """The job that a session shows: a module, or anything with these names."""

    PATH: str  # where the API takes it

    def new_body(self, first_name: str, last_name: str) -> dict[str, str]:
        """Return what to POST to `PATH`, new each time."""
        ...

    def held_up_table(self) -> str:
        """Return the table that the job writes to after it has reported progress."""
        ...

    def made_path(self, task: dict[str, Any]) -> str:
        """Return where the API reads what the job of `task` made."""
        ...


def demo_job() -> DemoJob | None:
    """Return the job that the project has for a session; None: it names none."""
    path = conf.JOBS_DEV_DEMO
    return cast("DemoJob", import_module(path)) if path else None


def root() -> Path:
    """Return the directory of the checkout: `BASE_DIR` of the settings."""
    return Path(settings.BASE_DIR)


def own_database() -> str | None:
    """Return the URL of the server that the project names itself; None: it uses the embedded one.

    An empty URL takes everything from the PG* variables.
    """
    url: str | None = conf.JOBS_DEV_DATABASE_URL
    return url


def is_production() -> bool:
    """Tell whether the settings refuse whatever is for development and tests only."""
    return bool(conf.JOBS_DEV_REFUSED)
