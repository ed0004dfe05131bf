"""Ids beyond what 32 bits hold, and beyond what a number in JavaScript does: E28."""

import json
from typing import Any

from http_calls import call

from pgjobs.defer.bridge import owned_by
from tests.faults.campaign import menu
from tests.faults.campaign.away import web
from tests.faults.campaign.experiment import ALIVE, TAKEN, Experiment, Figure, kept
from tests.faults.campaign.world import World

WORKERS = 2
TABLES = (
    "procrastinate_jobs", "procrastinate_events", "procrastinate_workers",
    "procrastinate_periodic_defers", "pgjobs_attempt",
)  # fmt: skip

_NOT_BEYOND_SQL = """
    SELECT
        (SELECT count(*) FROM procrastinate_jobs WHERE id <= start)
        + (SELECT count(*) FROM procrastinate_events WHERE id <= start)
        + (SELECT count(*) FROM pgjobs_attempt WHERE id <= start)
        + (SELECT count(*) FROM pgjobs_workerprocess WHERE id <= start)
    FROM (SELECT %s::bigint AS start) AS these
"""


def use_large_ids(world: World) -> dict[str, Any]:
    """E28: sequences go on at `start`; jobs are deferred, run, retried and asked for by HTTP."""
    options = world.options
    _let_ids_begin_at(world, options.start)
    world.start_workers(WORKERS)
    owner, token = _owner()
    with owned_by(owner), web(world) as base:
        for number in range(options.jobs):
            spec: Any = (menu.pay, menu.pay_plainly, menu.wander)[number % 3]
            world.log.defer(spec, fails=number % 2)
        verdict = world.verdict()
        inexact = sum(
            _told(base, str(deferred.task_id), token) != (str(deferred.job_id), "DONE")
            for deferred in world.log.accepted.values()
        )
    return {
        "jobs": options.jobs,
        "inexact": inexact,
        "not_beyond": world.value(_NOT_BEYOND_SQL, options.start),
        "ended_unasked": world.workers.ended(),
        **verdict,
    }


def _let_ids_begin_at(world: World, start: int) -> None:
    with world.server.connect() as connection:
        for table in TABLES:
            connection.execute(
                "SELECT setval(pg_get_serial_sequence(%s, 'id')::regclass, %s)", [table, start]
            )


def _owner() -> tuple[Any, str]:
    """Return the key of a new user and a token of theirs: of staff, whom alone `job_id` is told."""
    # Models are there once Django is set up.
    from django.contrib.auth import get_user_model
    from knox.models import get_token_model

    user = get_user_model().objects.create_user("olga", "olga@example.org", is_staff=True)
    return user.pk, get_token_model().objects.create(user)[1]


def _told(base: str, task_id: str, token: str) -> tuple[Any, Any]:
    """Return job_id and status as somebody reads them whose numbers are floats, as a browser's."""
    body = json.loads(call(f"{base}/api/tasks/{task_id}/", token=token).text, parse_int=float)
    return body.get("job_id"), body.get("status")


EXPERIMENTS = (
    Experiment(
        "E28",
        "ids from 2^31, 2^53 and 2^62 on",
        use_large_ids,
        (
            *kept("jobs"),
            TAKEN,
            Figure("inexact", "sum", 0, "answers of the API with another id or end", "jobs"),
            Figure("not_beyond", "sum", 0, "rows whose id is not that large: the measure itself"),
            ALIVE,
        ),
        tuple(
            {"seed": seed, "lease": "short", "start": start, "jobs": 300, "patience": 60}
            for seed, start in enumerate((2**31 - 10, 2**53 - 10, 2**62), start=1)
        ),
        {"seed": 1, "lease": "short", "start": 2**53 - 10, "jobs": 30, "patience": 20},
        {"narrow_ids": ({"start": 2**31 - 10, "patience": 3}, {"lost"})},
    ),
)
