"""The project that the development commands serve, as its settings describe it."""

from pathlib import Path

from django.conf import settings

from pgjobs.conf import conf


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
