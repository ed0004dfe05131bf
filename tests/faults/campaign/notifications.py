"""Notifications that nobody hears, or that Postgres has no room for: E10, E12."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from http_calls import Answer, call
from notifying import notify_always
from sample import demo

from tests.faults.campaign import menu
from tests.faults.campaign.away import web
from tests.faults.campaign.experiment import ALIVE, TAKEN, Experiment, Figure, kept
from tests.faults.campaign.world import TooLateError, World

# The product's own worker: it runs what was deferred by the API.
PRODUCT = "tasks.app"
ALARM = "Postgres' queue of notifications is"
ALARM_SHARE = 0.5
# So many jobs after each other that start at once: the poll alone seldom comes to that.
IN_A_ROW = 5
AT_ONCE_SECONDS = 1.0
TRIGGERS = ("pgjobs_notify_inserted", "pgjobs_notify_returned")

_LISTENERS_SQL = """
    SELECT pid, extract(epoch FROM backend_start)::float FROM pg_stat_activity
    WHERE datname = current_database() AND query LIKE 'LISTEN %%' AND pid <> %s
"""
_WAIT_SQL = """
    SELECT extract(epoch FROM start.at - task.created_at)::float
    FROM pgjobs_task AS task JOIN faults_start AS start USING (job_id)
    WHERE task.job_id = %s AND start.run = 1
"""
_WAITS_UNTIL_SQL = """
    SELECT round(extract(epoch FROM start.at - task.created_at), 2)::float
    FROM pgjobs_task AS task JOIN faults_start AS start USING (job_id)
    WHERE start.run = 1 AND task.created_at < to_timestamp(%s)
"""
_USAGE_SQL = "SELECT pg_notification_queue_usage()::float"
_DONE_SQL = "SELECT count(*) FROM pgjobs_task WHERE id = ANY(%s::uuid[]) AND end_status = 'DONE'"


def lose_notifications(world: World) -> dict[str, Any]:
    """E10: end the session that listens, again and again; then let nobody notify."""
    options = world.options
    if poll := options.get("poll"):
        world.workers.extra["JOBS_WORKER_POLL_SECONDS"] = str(poll)
    world.start_workers(1)
    listener, _ = _listens_anew(world, 0)
    listens, healthy, deaf = [], [], []
    for _ in range(options.kills):
        world.value("SELECT pg_terminate_backend(%s)", listener)
        killed = time.time()
        deaf.append(_wait_of_a_job(world))
        listener, began = _listens_anew(world, listener)
        listens.append(round(began - killed, 2))
        healthy.append(_wait_of_a_job(world))
    _let_nobody_notify(world)
    for _ in range(options.unheard):
        time.sleep(world.random.uniform(0, 1))
        deaf.append(_wait_of_a_job(world))
    return {
        "kills": options.kills,
        "deaf": len(deaf),
        "listens_s": listens,
        "healthy_p99_s": sorted(healthy)[int(0.99 * (len(healthy) - 1))],
        "deaf_s": deaf,
        "ended_unasked": world.workers.ended(),
        **world.verdict(),
    }


def fill_notifications(world: World) -> dict[str, Any]:
    """E12: a session listens and sits in a transaction until the queue is full; jobs are added."""
    _restart_with_a_small_queue(world)
    world.start_workers(1)
    answers: list[tuple[float, Answer]] = []
    logged = world.workers.log_size()
    with web(world) as base:
        token = _token()
        with _nothing_taken_away(world):
            _fill(world, ALARM_SHARE)
            alarm = _seconds_to_alarm(world, logged)
            _fill(world, 1.0)
            with (
                world.fed(lambda: answers.append(_posted(base, token)), rate=4),
                world.fed(lambda: world.log.defer(menu.wander), rate=5),
            ):
                time.sleep(world.options.seconds)
        released = time.time()
        recovered = _seconds_until_jobs_start_at_once(world, released)
        world.workers.start(PRODUCT)
        verdict = world.verdict()
    accepted = [answer.json["task_id"] for _, answer in answers if answer.status == 202]
    return {
        "posts": len(answers),
        "posts_accepted": len(accepted),
        "posts_lost": len(accepted) - world.value(_DONE_SQL, accepted),
        "posts_otherwise": sum(not _is_allowed(answer) for _, answer in answers),
        "post_s": sorted(seconds for seconds, _ in answers)[-20:],
        "alarm_s": alarm,
        "by_poll_s": sorted(wait for (wait,) in world.rows(_WAITS_UNTIL_SQL, released))[-20:],
        "recovered_s": recovered,
        "ended_unasked": world.workers.ended(),
        **verdict,
        # A COMMIT that fails for want of room was answered: nothing is unknown here.
        "refused": verdict["refused"] + verdict["unknown"],
    }


def _wait_of_a_job(world: World) -> float:
    """Defer a job; return the seconds until it starts, or all one's patience if it does not."""
    deferred = world.log.defer(menu.wander)
    patience = world.options.patience
    if deferred is None:  # refused
        return float(patience)
    try:
        found = world.await_true(
            lambda: world.rows(_WAIT_SQL, deferred.job_id), "the job starts", patience
        )
    except TooLateError:
        return float(patience)
    return round(float(found[0][0]), 3)


# --- E10 -----------------------------------------------------------------------------------------


def _listens_anew(world: World, before: int) -> tuple[int, float]:
    """Return the session that listens after that one, and when it began; by now if none does."""
    patience = world.options.patience
    try:
        found = world.await_true(lambda: world.rows(_LISTENERS_SQL, before), "it listens", patience)
    except TooLateError:
        return before, time.time()
    return int(found[0][0]), float(found[0][1])


def _let_nobody_notify(world: World) -> None:
    with world.server.connect() as connection:
        for trigger in TRIGGERS:
            connection.execute(f"ALTER TABLE procrastinate_jobs DISABLE TRIGGER {trigger}")


# --- E12 -----------------------------------------------------------------------------------------


def _restart_with_a_small_queue(world: World) -> None:
    """Let 512 kB of notifications fill it; `unguarded`: triggers notify into a full one, too."""
    world.server.relax({"max_notify_queue_pages": "64"})
    world.server.stop()
    world.server.start()
    if world.options.get("unguarded"):
        with world.server.connect() as connection:
            notify_always(connection)


@contextmanager
def _nothing_taken_away(world: World) -> Iterator[None]:
    """Let a session listen and sit in a transaction: what is notified stays in the queue."""
    with world.server.connect() as idler:
        idler.execute("LISTEN nothing")
        idler.execute("BEGIN")
        idler.execute("SELECT 1")
        yield


def _fill(world: World, share: float) -> None:
    """Notify until the queue is as full as that, or takes no more."""
    with world.server.connect() as filler, suppress(psycopg.errors.ProgramLimitExceeded):
        while world.value(_USAGE_SQL) < share:
            filler.execute("SELECT pg_notify('anything', repeat('x', 7000))")


def _seconds_to_alarm(world: World, logged: int) -> float:
    began = time.monotonic()
    with suppress(TooLateError):
        world.await_true(
            lambda: ALARM in world.workers.log_since(logged),
            "the alarm",
            world.options.patience,
            0.1,
        )
    return round(time.monotonic() - began, 2)


def _token() -> str:
    """Return a token of somebody who may use the API; Django is set up now."""
    from django.contrib.auth import get_user_model
    from knox.models import AuthToken

    user = get_user_model().objects.create_superuser("operator", "operator@example.com", "secret")
    token: str = AuthToken.objects.create(user=user)[1]
    return token


def _posted(base: str, token: str) -> tuple[float, Answer]:
    """Return how long a POST took, and its answer."""
    began = time.monotonic()
    answer = call(base + demo.PATH, token=token, body=demo.new_body("Ada", "Lovelace"))
    return round(time.monotonic() - began, 2), answer


def _is_allowed(answer: Answer) -> bool:
    return answer.status == 202 or (answer.status == 503 and "Retry-After" in answer.headers)


def _seconds_until_jobs_start_at_once(world: World, since: float) -> float:
    """Return it; if they do not, for how long it was waited for."""
    deadline = time.monotonic() + world.options.patience
    in_a_row, first = 0, 0.0
    while in_a_row < IN_A_ROW and time.monotonic() < deadline:
        began = time.time()
        is_at_once = _wait_of_a_job(world) < AT_ONCE_SECONDS
        first = began if in_a_row == 0 else first
        in_a_row = in_a_row + 1 if is_at_once else 0
        time.sleep(world.random.uniform(0, AT_ONCE_SECONDS))
    return round((first if in_a_row == IN_A_ROW else time.time()) - since, 2)


EXPERIMENTS = (
    Experiment(
        "E10",
        "the session that listens terminated, then nobody notifies",
        lose_notifications,
        (
            *kept("deaf"),
            TAKEN,
            Figure("healthy_p99_s", "max", 1, "from defer to start while it listens, p99, s"),
            Figure("deaf_s", "max", 2.5, "from defer to start while it hears nothing, worst, s"),
            Figure("listens_s", "max", 5, "from the end of the session to the next, worst, s"),
            ALIVE,
        ),
        ({"seed": 1, "lease": "product", "kills": 100, "unheard": 50, "patience": 20},),
        {"seed": 1, "lease": "short", "kills": 3, "unheard": 3, "patience": 20},
        {
            "stays_deaf": ({"patience": 6, "kills": 1}, {"listens_s"}),
            "slow_poll": ({"poll": 30, "twin": "", "kills": 1, "patience": 8}, {"deaf_s"}),
        },
    ),
    Experiment(
        "E12",
        "Postgres' queue of notifications is full",
        fill_notifications,
        (
            *kept("accepted"),
            TAKEN,
            Figure("posts_lost", "sum", 0, "jobs accepted by the API and lost", "posts"),
            Figure("posts_otherwise", "sum", 0, "answers other than 202, or 503 with Retry-After"),
            Figure("post_s", "max", 3, "answer of the API meanwhile, worst, s"),
            Figure("alarm_s", "max", 30, "from half full until a worker says so, worst, s"),
            Figure("by_poll_s", "max", None, "from defer to start meanwhile, worst, s"),
            Figure("recovered_s", "max", 10, "from its release until jobs start within 1 s, s"),
            ALIVE,
        ),
        tuple(
            {"seed": seed, "lease": "product", "seconds": 30, "patience": 60}
            for seed in range(1, 3)
        ),
        {"seed": 1, "lease": "short", "seconds": 3, "patience": 30},
        {
            "no_notify_alarm": ({"patience": 31}, {"alarm_s"}),
            "unguarded": ({"unguarded": True, "twin": ""}, {"refused"}),
        },
    ),
)
