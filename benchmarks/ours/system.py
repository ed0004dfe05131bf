"""This project as a system under measurement."""

import os
import time
from typing import Any

from django.core.management import call_command
from psycopg import sql

from benchmarks.environment import connect, url
from benchmarks.ours import many_tasks
from benchmarks.system import BIN, PYTHON, Command, System, Times, recreate, spaced

# One worker process: what it runs at a time. Everything else is as the project ships it.
CONCURRENCY = 100
THREADS = 20
CHUNK = 1000

# Jobs that wait already, by the name of the template database that holds them.
BACKLOGS: dict[str, list[dict[str, Any]]] = {
    "_queued": [{"n": 500_000, "task": "waiting", "priority": -10}],
    "_scheduled": [{"n": 100_000, "task": "waiting", "due_in": "1 day"}],
    # The first one runs for as long as the worker does, the others wait for it.
    "_one_lock": [
        {"n": 1, "task": "hold", "locks": 1},
        {"n": 20_000, "task": "waiting", "locks": 1},
    ],
    "_locks": [{"n": 5_000, "task": "waiting", "locks": 5_000, "priority": -10}],
}

# A month's tasks, nearly all of them ended.
MONTH = "_month"
TASKS_OF_A_MONTH = 1_000_000

# Tracked jobs as `defer` writes them, many in one statement. Loads only; never measured.
PRELOAD = """
WITH job AS (
    INSERT INTO procrastinate_jobs (queue_name, task_name, priority, lock, args, scheduled_at)
    SELECT
        'bench', %(task)s, %(priority)s, 'bench:' || seq %% nullif(%(locks)s, 0),
        jsonb_build_object('seq', seq), now() + %(due_in)s::interval
    FROM generate_series(%(first)s::int, %(last)s::int) AS seq
    RETURNING id, task_name, queue_name, args
)
INSERT INTO pgjobs_task (
    id, job_id, task_name, queue_name, input_data, correlation_id, progress, attempts,
    created_at, updated_at
)
SELECT
    -- a UUIDv7, as ours are
    (lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') || '7'
     || substr(md5(random()::text), 1, 3) || '8' || substr(md5(random()::text), 1, 15))::uuid,
    id, task_name, queue_name, args, gen_random_uuid()::text, 0, 0,
    clock_timestamp(), clock_timestamp()
FROM job
"""

ENDED = """
SELECT count(*) FILTER (WHERE end_status = 'DONE'), count(result), count(DISTINCT job_id)
FROM pgjobs_task
WHERE end_status IS NOT NULL AND task_name <> 'waiting'
"""

END_TIMES = """
SELECT extract(epoch FROM finished_at)
FROM pgjobs_task
WHERE end_status IS NOT NULL AND task_name <> 'waiting'
"""


class Ours(System):
    """The worker of this checkout; jobs have their Task, results are stored."""

    database = "bench_ours"

    def prepare(self) -> None:
        _set_up_django(self.template)
        recreate(self.template)
        call_command("migrate", verbosity=0)
        _close_connection()

    def connect(self) -> None:
        _set_up_django(self.database)

    def fresh(self, backlog: str = "") -> None:
        _close_connection()
        if backlog:
            self._build(backlog)
        super().fresh(backlog)

    def enqueue(self, n: int, *, spacing: float, task: str = "noop") -> Times:
        spec = _specs()[task]
        return spaced(lambda seq: spec.defer(seq=seq), n, spacing)

    def preload(self, n: int, *, task: str = "noop") -> None:
        preload(self.database, task=task, n=n)

    def bulk(self, n: int) -> float:
        spec = _specs()["noop"]
        began = time.perf_counter()
        for first in range(0, n, CHUNK):
            spec.defer_many([{"seq": seq} for seq in range(first, min(n, first + CHUNK))])
        return time.perf_counter() - began

    def workers(self, config: str) -> list[Command]:
        if config.startswith("bare-sql"):
            return [self._command(PYTHON, "-m", "benchmarks.ours.bare_sql")] * int(config[-1])
        worker = self._command(
            str(BIN / "procrastinate"),
            "--log-level=warning",
            "--app=benchmarks.ours.worker.app",
            "worker",
            f"--concurrency={CONCURRENCY}",
        )
        return [worker] * int(config)

    def web(self, port: int) -> Command:
        command = uvicorn("myproj.asgi:application", port)
        return command, environment(self.database, role="web")

    def token(self) -> str:
        return superuser_token()

    def readers(self) -> list[str]:
        from django.contrib.auth import get_user_model  # noqa: PLC0415 # once Django is set up
        from knox.models import get_token_model  # noqa: PLC0415

        owner = get_user_model().objects.create_user(
            "owner", "owner@example.com", "of-the-owner", id=many_tasks.owner_id(4)
        )
        token: str = get_token_model().objects.create(owner)[1]
        return [superuser_token(), token]

    def queries(self) -> dict[str, str]:
        return many_tasks.queries()

    def end_times(self) -> list[float]:
        with connect(self.database) as connection:
            rows = connection.execute(END_TIMES).fetchall()
        return [float(moment) for (moment,) in rows]

    def faults(self, n: int) -> str:
        with connect(self.database) as connection:
            found = connection.execute(ENDED).fetchone()
        return "" if found == (n, n, n) else f"of {n} tasks (done, with result, once): {found}"

    def _command(self, *arguments: str) -> Command:
        return list(arguments), environment(self.database, role="worker")

    def _build(self, backlog: str) -> None:
        """Make the template database with this backlog, unless it is there already."""
        name = self.template + backlog
        with connect() as connection:
            query = "SELECT 1 FROM pg_database WHERE datname = %s"
            if connection.execute(query, [name]).fetchone():
                return
        unfinished = f"{name}_unfinished"
        recreate(unfinished, template=self.template)
        if backlog == MONTH:
            with connect(unfinished) as connection:
                many_tasks.fill(connection, TASKS_OF_A_MONTH)
        for jobs in BACKLOGS.get(backlog, ()):
            preload(unfinished, **jobs)
        with connect(unfinished) as connection:
            connection.execute("VACUUM ANALYZE")
        with connect() as connection:
            rename = sql.SQL("ALTER DATABASE {} RENAME TO {}")
            names = map(sql.Identifier, (unfinished, name))
            connection.execute(rename.format(*names))


def preload(
    database: str,
    *,
    n: int,
    task: str = "noop",
    priority: int = 0,
    locks: int = 0,
    due_in: str | None = None,
) -> None:
    """Queue n tracked jobs; with `locks` they share so many, with `due_in` they are due later."""
    with connect(database) as connection:
        for first in range(0, n, 10_000):
            parameters = {
                "task": task,
                "priority": priority,
                "locks": locks,
                "due_in": due_in,
                "first": first,
                "last": min(n, first + 10_000) - 1,
            }
            connection.execute(PRELOAD, parameters)


def environment(database: str, *, role: str) -> dict[str, str]:
    """Return what a process of ours is started with; `role` is one of myproj/database.py."""
    return {
        "DATABASE_URL": url(database),
        "PROCESS_ROLE": role,
        "ENVIRONMENT": "development",
        "LOG_LEVEL": "WARNING",
        "JOBS_EAGER": "false",
        # Counted as everywhere, and never refused.
        "JOBS_OPEN_TASKS_PER_USER": "1000000",
        "JOBS_THROTTLE_TOKEN_PER_MINUTE": "1000000000",
        "JOBS_THROTTLE_USER_PER_MINUTE": "1000000000",
        "JOBS_WORKER_THREADS": str(THREADS),
    }


def uvicorn(application: str, port: int) -> list[str]:
    """Return the Procfile's web line, on another port."""
    options = ["--host=127.0.0.1", f"--port={port}", "--lifespan=off", "--no-access-log"]
    return [str(BIN / "uvicorn"), application, *options, "--log-level=warning"]


def superuser_token() -> str:
    """Make a superuser in the database at hand and return a new API token of theirs."""
    from django.contrib.auth import get_user_model  # noqa: PLC0415 # once Django is set up
    from knox.models import get_token_model  # noqa: PLC0415

    user = get_user_model().objects.create_superuser("bench", "bench@example.com", "of-the-bench")
    token: str = get_token_model().objects.create(user)[1]
    _close_connection()
    return token


def _set_up_django(database: str) -> None:
    os.environ.update(environment(database, role="command"))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "myproj.settings")
    import django  # noqa: PLC0415 # the environment comes first

    django.setup()


def _specs() -> dict[str, Any]:
    from benchmarks.ours import menu  # noqa: PLC0415 # once Django is set up
    from pgjobs.defer.bridge import specs_in  # noqa: PLC0415

    return specs_in(vars(menu))


def _close_connection() -> None:
    from django.db import connection  # noqa: PLC0415 # once Django is set up

    connection.close()
