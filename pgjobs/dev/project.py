"""The project that the development commands serve, as its settings describe it."""

from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from django.conf import settings
from django.urls import Resolver404, resolve
from psycopg.conninfo import make_conninfo

from pgjobs.conf import AS_DATABASES, conf
from pgjobs.database.alias import jobs_connection
from pgjobs.dev.home import checkout_home

# Of health probes (pgjobs/observe/urls.py), where a project includes them at its root.
READY_PATH = "/readyz"


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
    """Return the directory of the project: `BASE_DIR` of the settings, else where we are."""
    return Path(getattr(settings, "BASE_DIR", None) or Path.cwd())


def own_database() -> str | None:
    """Return the server that the project names itself, as libpq takes it; None: the embedded one.

    An empty text takes everything from the PG* variables.
    """
    url: str | None = conf.JOBS_DEV_DATABASE_URL
    if url != AS_DATABASES:
        return url
    if _is_embedded():
        return None
    known = jobs_connection().get_connection_params()
    parts = {name: known.get(name) for name in ("host", "port", "user", "password", "dbname")}
    return make_conninfo(**{name: str(part) for name, part in parts.items() if part})


def is_production() -> bool:
    """Tell whether the settings refuse whatever is for development and tests only."""
    return bool(conf.JOBS_DEV_REFUSED)


def facts() -> dict[str, Any]:
    """Return what a session is told of the project: whose server is embedded, if it is."""
    embedded = own_database() is None
    return {"is_production": is_production(), "root": str(root()) if embedded else None}


def has_page(path: str) -> bool:
    """Tell whether the project routes `path`."""
    try:
        resolve(path)
    except Resolver404:
        return False
    return True


def ready_path() -> str | None:
    """Return where web says that it can do its work, None where it does not."""
    return READY_PATH if has_page(READY_PATH) else None


def _is_embedded() -> bool:
    # What names no Postgres at all is no server of the project's own either.
    connection = jobs_connection()
    host: str = connection.settings_dict["HOST"]
    return connection.vendor != "postgresql" or host == str(checkout_home(root()).sockets)
