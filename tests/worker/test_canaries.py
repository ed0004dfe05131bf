"""Secrets stand nowhere but where they must: one table's column, which says the test aloud.

Arguments declared `sensitive` and the password of DATABASE_URL go through every path of real web
and worker processes at the level DEBUG; then all that was answered, written and stored is searched.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import canary_samples
import pytest
from django.db import connection
from django.test import Client
from http_calls import call
from process_fixtures import StartWeb
from programs import Program, eventually
from psycopg.sql import SQL, Identifier

from pgjobs.tracking.models import Attempt, Task

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.worker]

# With what JSON, Python and URLs quote; a word inside, so that a half of it is found as well.
PASSWORD = "c4n4ry-\"pass'wörd\\ /&%"
CARD: dict[str, Any] = {"number": "4000-c4n4ry-0000", "pin": 73190467, "codes": ["c4n4ry-code"]}
CANARIES = ("c4n4ry", "73190467")
# The one place that must hold arguments, for whoever runs the job.
MAY_HOLD = ("procrastinate_jobs", "args")
SURROUNDINGS = {
    "DJANGO_SETTINGS_MODULE": "canary_settings",
    "LOG_LEVEL": "DEBUG",
    "JOBS_WORKER_HEARTBEAT_SECONDS": "0.3",
    "JOBS_WORKER_LEASE_SECONDS": "1.5",
    "SECRET_KEY": "c4n4ry-of-a-key-that-signs-sessions-and-links",
}

type StartWorker = Callable[..., Program]
type Found = list[tuple[str, str]]


def _found_in(place: str, text: str) -> Found:
    return [(place, line) for line in text.splitlines() for canary in CANARIES if canary in line]


def _found_in_tables() -> Found:
    """Search every column of every table as text, but the one that must hold the arguments."""
    found: Found = []
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT table_name, column_name FROM information_schema.columns"
            " WHERE table_schema = 'public'"
        )
        columns = [pair for pair in cursor.fetchall() if pair != MAY_HOLD]
        assert len(columns) > 100
        for table, column in columns:
            names = {"table": Identifier(table), "column": Identifier(column)}
            cursor.execute(SQL("SELECT {column}::text FROM {table}").format(**names))
            for (text,) in cursor.fetchall():
                found += _found_in(f"{table}.{column}", text or "")
    return found


def _bodies() -> Iterator[dict[str, Any]]:
    good = {"way": "return", "password": PASSWORD, "card": CARD}
    yield good
    yield {**good, PASSWORD[:6] + "unknown": 1, "way": 7}  # an unknown field, a wrong type
    yield {**good, "password": [PASSWORD]}
    yield {**good, "password": PASSWORD * 20}
    yield {**good, "card": f"{CARD}\x00"}
    yield {**good, "card": CARD, "way": "x" * 30}


def _answers(url: str, token: str, task_ids: Iterable[Any]) -> Iterator[tuple[str, str]]:
    """Yield what is answered by every route of the API that shows a task, and by bad requests."""
    yield "list", call(f"{url}/api/tasks/", token=token).text
    for task_id in task_ids:
        for tail in ("", "status/", "attempts/"):
            path = f"/api/tasks/{task_id}/{tail}"
            yield path, call(f"{url}{path}", token=token).text


def _answers_to_bad_bodies(url: str, token: str) -> Iterator[tuple[str, str]]:
    for number, body in enumerate(_bodies()):
        # The sender's own misspelt name of a field comes back to him as the pointer to it.
        text = call(f"{url}/api/leaks/", token=token, body=body).text
        yield f"body {number}", text.replace("c4n4ryunknown", "")
    careless = {"way": "return", "passwort": PASSWORD, "card": CARD}
    yield "unknown arguments", call(f"{url}/api/careless/x/", token=token, body=careless).text


def _pages(admin: Any) -> Iterator[tuple[str, str]]:
    browser = Client()
    browser.force_login(admin)
    yield "home", browser.get("/").content.decode()
    yield "admin", browser.get("/admin/pgjobs/task/?q=leak").content.decode()
    for task in Task.objects.all():
        page = f"/admin/pgjobs/task/{task.pk}/change/"
        yield page, browser.get(page).content.decode()


def _all_found(
    start_worker: StartWorker, start_web: StartWeb, admin: Any, token: str, **twin: str
) -> Found:
    web, url = start_web(**SURROUNDINGS, **twin)
    programs = [web, start_worker("canary_samples.app", **SURROUNDINGS, **twin)]
    shown = list(_answers_to_bad_bodies(url, token))
    for way in canary_samples.WAYS:
        for spec in canary_samples.SPECS.values():
            if way != "crash":
                spec.defer(way=way, password=PASSWORD, card=CARD)
    eventually(_all_ended)
    crash = canary_samples.leak.defer(way="crash", password=PASSWORD, card=CARD)
    eventually(lambda: programs[1].process.poll() is not None)
    programs.append(start_worker("canary_samples.app", **SURROUNDINGS, **twin))
    eventually(_all_ended)

    ids = list(Task.objects.values_list("id", flat=True))
    assert crash.task_id in ids
    assert {kind for (kind,) in Attempt.objects.values_list("kind")} == {"failed", "crashed"}
    shown += [*_answers(url, token, ids), *_pages(admin)]
    shown += [("output", "\n".join(program.lines)) for program in programs]
    assert sum("Traceback" in text for _, text in shown) > 10
    found = [one for place, text in shown for one in _found_in(place, text)]
    return found + _found_in_tables()


def _all_ended() -> bool:
    return not Task.objects.filter(end_status=None).exists()


@pytest.mark.long
def test_sensitive_arguments_stand_nowhere_but_in_the_arguments_of_the_job(
    start_worker: StartWorker, start_web: StartWeb, admin: Any, token_of: Callable[[Any], str]
) -> None:
    assert _all_found(start_worker, start_web, admin, token_of(admin)) == []
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM procrastinate_jobs WHERE args::text LIKE '%c4n4ry%'")
        assert cursor.fetchone()[0] > 30  # said aloud: here they stand, in the clear


@pytest.mark.long
def test_without_redaction_they_are_found(
    start_worker: StartWorker, start_web: StartWeb, admin: Any, token_of: Callable[[Any], str]
) -> None:
    found = _all_found(start_worker, start_web, admin, token_of(admin), CANARY_TWIN="no_redaction")

    places = {place.partition(" ")[0] for place, _ in found}
    assert places >= {"output", "pgjobs_task.result", "pgjobs_attempt.traceback"}


@pytest.mark.parametrize("twin", [{}, {"CANARY_TWIN": "no_redaction"}])
def test_an_eager_task_that_fails_in_a_request_is_logged_without_them(
    start_web: StartWeb, admin: Any, token_of: Callable[[Any], str], twin: dict[str, str]
) -> None:
    web, url = start_web(**SURROUNDINGS, JOBS_EAGER="true", **twin)
    token = token_of(admin)

    answers = []
    for way in ("return", "report", "log", "raise", "raise_ours", "chain", "locals", "sql"):
        body = {"way": way, "password": PASSWORD, "card": CARD}
        answers.append(call(f"{url}/api/leaks/", token=token, body=body))

    assert {answer.status for answer in answers} >= {202, 500}
    web.line("unexpected error")
    found = _found_in("output", "\n".join(web.lines)) + _found_in_tables()
    assert bool(found) is bool(twin)


@pytest.mark.long
@pytest.mark.parametrize(
    "url",
    [
        "postgresql://olga:c4n4ry-word@127.0.0.1:1/jobs",
        "postgresql://olga:c4n4%72y-word@127.0.0.1:1/jobs",
        "postgresql://olga:c4n4ry@word@127.0.0.1:1/jobs",
        "postgresql://olga:c4n4ry/word@127.0.0.1:1/jobs",
        "postgresql://olga:c4n4ry%zzword@127.0.0.1:1/jobs",
        "postgresql://olga:x@127.0.0.1:c4n4ry/jobs",
        "host=127.0.0.1 port=1 user=olga password=c4n4ry-word",
        "host=127.0.0.1 port=1 password='c4n4ry-word",
        "c4n4ry-word",
    ],
)
def test_the_password_of_a_database_that_is_away_is_said_by_nobody(
    start_program: Callable[..., Program], url: str
) -> None:
    surroundings = {"DATABASE_URL": url, "LOG_LEVEL": "DEBUG"}
    worker = start_program("procrastinate", "--app=tasks.app", "worker", **surroundings)
    check = start_program("python", "manage.py", "showmigrations", **surroundings)
    eventually(
        lambda: (
            worker.process.poll() is not None
            or any("does not answer" in line or "database" in line for line in worker.lines)
        )
    )

    assert check.end() != 0
    lines = [*worker.lines, *check.lines]
    assert len(lines) > 1
    assert _found_in("output", "\n".join(lines)) == []
