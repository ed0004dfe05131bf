"""Reads of the pages."""

from dataclasses import dataclass

from django.db import connection

from pgjobs.database.sql import read_sql

_HOME_SQL = read_sql("myapp.pages", "home_summary")


@dataclass(frozen=True, slots=True, kw_only=True)
class HomeSummary:
    """What the home page tells."""

    postgres_version: str
    workers: int  # seen alive within the last 30 s
    waiting: int  # jobs, counted up to COUNTED_UP_TO
    running: int  # jobs
    oldest_ready_seconds: float | None  # None: no job is ready and waiting

    COUNTED_UP_TO = 10_000

    @property
    def waiting_label(self) -> str:
        return f"{self.COUNTED_UP_TO}+" if self.waiting > self.COUNTED_UP_TO else str(self.waiting)


def home_summary() -> HomeSummary:
    """Return what is running now, in one statement."""
    with connection.cursor() as cursor:
        cursor.execute(_HOME_SQL, {"count_limit": HomeSummary.COUNTED_UP_TO + 1})
        version, workers, waiting, running, oldest = cursor.fetchone()
    return HomeSummary(
        postgres_version=version,
        workers=workers,
        waiting=waiting,
        running=running,
        oldest_ready_seconds=oldest,
    )
