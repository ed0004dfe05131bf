"""How often a user, a token, a stranger's address may ask the API: exact, and said in headers."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test import RequestFactory
from http_calls import call
from process_fixtures import Web
from programs import PROJECT
from psycopg.errors import ReadOnlySqlTransaction
from rest_framework.test import APIClient

from pgjobs.api.http.scope import ASKED_AGAIN
from pgjobs.api.throttles import services
from pgjobs.api.throttles.models import Window
from pgjobs.api.throttles.services import Quota, count_request
from pgjobs.api.throttles.throttling import AnonymousThrottle

pytestmark = pytest.mark.django_db

type ClientOf = Callable[[Any], APIClient]
PATH = "/api/tasks/"
SQL = "pgjobs.api.throttles.services._COUNT_SQL"


def _limits(settings: Any, *, anonymous: int = 0, user: int = 0, token: int = 0) -> None:
    settings.JOBS_THROTTLE_ANONYMOUS_PER_MINUTE = anonymous
    settings.JOBS_THROTTLE_USER_PER_MINUTE = user
    settings.JOBS_THROTTLE_TOKEN_PER_MINUTE = token


def _statuses(client: APIClient, times: int) -> list[int]:
    return [client.get(PATH).status_code for _ in range(times)]


def test_the_limits_are_sixty_for_strangers_and_six_thousand_for_users(settings: Any) -> None:
    names = ("ANONYMOUS_PER_MINUTE", "USER_PER_MINUTE", "TOKEN_PER_MINUTE")

    limits = [getattr(settings, f"JOBS_THROTTLE_{name}") for name in names]

    assert limits == [60, 6000, 6000]


def test_an_answer_says_the_limits_and_how_they_stand(client_of: ClientOf, user: Any) -> None:
    answer = client_of(user).get(PATH)

    assert answer["RateLimit-Policy"] == '"token";q=6000;w=60, "user";q=6000;w=60'
    assert answer["RateLimit"] == '"token";r=5999;t=60, "user";r=5999;t=60'


def test_one_too_many_is_a_429_problem_that_says_when_to_come_back(
    settings: Any, client_of: ClientOf, user: Any
) -> None:
    _limits(settings, user=2)
    client = client_of(user)

    assert _statuses(client, 2) == [200, 200]
    answer = client.get(PATH)

    assert (answer.status_code, answer.json()["code"]) == (429, "throttled")
    assert answer["Content-Type"] == "application/problem+json"
    assert 0 < int(answer["Retry-After"]) <= 61
    assert answer["RateLimit"].startswith('"user";r=0;t=')


def test_each_token_counts_apart_and_all_of_them_for_their_user(
    settings: Any, client_of: ClientOf, user: Any
) -> None:
    _limits(settings, user=5, token=3)
    first, second = client_of(user), client_of(user)

    assert _statuses(first, 5) == [200, 200, 200, 429, 429]
    # What the first token's window refused used up nothing of the user's.
    assert _statuses(second, 3) == [200, 200, 429]


def test_a_session_counts_for_its_user(settings: Any, client_of: ClientOf, user: Any) -> None:
    _limits(settings, user=2, token=9)
    browser = APIClient()
    browser.force_login(user)

    assert _statuses(browser, 2) == [200, 200]
    assert _statuses(client_of(user), 1) == [429]


def test_users_count_apart(settings: Any, client_of: ClientOf, user: Any, admin: Any) -> None:
    _limits(settings, user=1)

    assert _statuses(client_of(user), 2) == [200, 429]
    assert _statuses(client_of(admin), 2) == [200, 429]


@pytest.mark.parametrize("header", [None, "Token nonsense"])
def test_who_does_not_say_who_it_is_counts_by_address(settings: Any, header: str | None) -> None:
    _limits(settings, anonymous=2)
    client = APIClient()
    if header:
        client.credentials(HTTP_AUTHORIZATION=header)

    assert _statuses(client, 3) == [401, 401, 429]
    answer = client.get(PATH)

    assert answer.json()["code"] == "throttled"
    assert 0 < int(answer["Retry-After"]) <= 61
    assert answer["RateLimit-Policy"] == '"anonymous";q=2;w=60'
    assert client.get(PATH, REMOTE_ADDR="192.0.2.9").status_code == 401


def test_limits_of_zero_are_switched_off(settings: Any, client_of: ClientOf, user: Any) -> None:
    _limits(settings)

    answer = client_of(user).get(PATH)

    assert answer.status_code == 200
    assert not {"RateLimit", "RateLimit-Policy"} & answer.headers.keys()
    assert APIClient().get(PATH).status_code == 401
    assert not Window.objects.exists()


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/api/schema/"])
def test_probes_and_the_description_are_not_throttled(settings: Any, path: str) -> None:
    _limits(settings, anonymous=1, user=1, token=1)

    assert [APIClient().get(path).status_code for _ in range(3)] == [200] * 3
    assert not Window.objects.exists()


def test_a_database_that_is_away_is_a_503_and_no_500(
    monkeypatch: pytest.MonkeyPatch, client_of: ClientOf, user: Any
) -> None:
    def away(*_args: Any) -> Any:
        raise OperationalError("gone")

    client = client_of(user)
    monkeypatch.setattr(services, "_rows", away)

    stranger = APIClient()
    for answer in (client.get(PATH), stranger.get(PATH), stranger.post("/api/subscriptions/")):
        assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
        assert "Retry-After" in answer.headers


@pytest.mark.django_db(transaction=True)
def test_a_database_that_only_reads_counts_nobody_and_still_answers(
    client_of: ClientOf, user: Any
) -> None:
    client = client_of(user)
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
    try:
        with pytest.raises(ReadOnlySqlTransaction):
            connection.connection.execute("DELETE FROM pgjobs_api_window")
        assert client.get(PATH).status_code == 200
    finally:
        connection.close()


# Fifty threads, each on a connection of its own: one that counted after it looked would let many
# through, as the twin does.
READS_THEN_WRITES = """
    WITH seen AS (
        SELECT coalesce(max(requests), 0) AS before FROM pgjobs_api_window WHERE scope = %(scope)s
    ), pause AS MATERIALIZED (SELECT before, pg_sleep(0.1) FROM seen), wrote AS (
        INSERT INTO pgjobs_api_window (scope, caller, requests, ends_at)
        SELECT %(scope)s, %(caller)s, before + 1, now() + interval '1 min' FROM pause
        ON CONFLICT (scope, caller) DO UPDATE SET requests = excluded.requests
    )
    SELECT %(scope)s::text, (before + 1)::int, false, 60.0::float8 FROM pause
"""


def _pass_of_fifty(quotas: Callable[[int], tuple[Quota, ...]]) -> Counter[bool]:
    ready = Barrier(50)

    def ask(number: int) -> bool:
        try:
            connection.ensure_connection()
            ready.wait()
            return all(one.may_pass for one in count_request(*quotas(number)))
        finally:
            connection.close()

    with ThreadPoolExecutor(50) as threads:
        return Counter(threads.map(ask, range(50)))


def _token_and_user(number: int) -> tuple[Quota, ...]:
    return (
        Quota("token", f"token {number % 2}", 15, 60),
        Quota("user", "olga", 20, 60),
    )


@pytest.mark.django_db(transaction=True)
def test_of_fifty_parallel_requests_by_two_tokens_exactly_the_users_limit_passes() -> None:
    assert _pass_of_fifty(_token_and_user) == {True: 20, False: 30}


@pytest.mark.django_db(transaction=True)
def test_counting_after_looking_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "_COUNT_SQL", READS_THEN_WRITES)

    assert _pass_of_fifty(lambda _: (Quota("user", "olga", 10, 60),))[True] > 10


@pytest.mark.django_db(transaction=True)
@pytest.mark.worker
def test_of_fifty_parallel_calls_over_http_exactly_the_limit_passes(
    start_web: Callable[..., Web], token_of: Callable[[Any], str], user: Any
) -> None:
    web = start_web(JOBS_THROTTLE_USER_PER_MINUTE="20", JOBS_THROTTLE_ANONYMOUS_PER_MINUTE="10")
    tokens = [token_of(user), token_of(user)]
    ready = Barrier(50)

    def ask(number: int) -> int:
        ready.wait()
        return call(f"{web.url}{PATH}", token=tokens[number % 2] if number < 40 else None).status

    with ThreadPoolExecutor(50) as threads:
        statuses = list(threads.map(ask, range(50)))

    assert Counter(statuses[:40]) == {200: 20, 429: 20}
    assert Counter(statuses[40:]) == {401: 10}
    assert call(f"{web.url}{PATH}").status == 429


def test_what_web_asks_itself_for_who_waits_is_no_request(rf: RequestFactory) -> None:
    asked, sent = rf.get(PATH), rf.get(PATH)
    asked.scope = {ASKED_AGAIN: True}  # type: ignore[attr-defined] # as under ASGI

    assert AnonymousThrottle().allow_request(asked, None)
    assert not Window.objects.exists()
    assert AnonymousThrottle().allow_request(sent, None)
    assert Window.objects.get().requests == 1


def test_a_user_brings_so_many_megabytes_in_a_day(
    settings: Any, client_of: ClientOf, user: Any, admin: Any
) -> None:
    settings.JOBS_THROTTLE_STORED_MB_PER_DAY = 1
    body = {"name": "x" * 100_000, "email": "x@example.org"}  # 98 KB, refused by its field

    def send(client: APIClient) -> Any:
        return client.post("/api/parcels/", body, format="json")

    first = client_of(admin)
    assert [send(first).status_code for _ in range(11)] == [400] * 10 + [429]
    assert 86_000 < int(send(client_of(admin))["Retry-After"]) <= 86_401
    assert first.get(PATH).status_code == 200
    assert send(client_of(user)).status_code == 403


@pytest.mark.parametrize(
    ("path", "body", "weight"),
    [
        ("/api/parcels/", {"name": "x"}, 2),
        ("/api/parcels/", None, 1),
        ("/api/tasks/bulk/", {"task_name": "list_parcels", "items": [{}] * 100}, 101),
        ("/api/tasks/bulk/", {"items": "x"}, 2),
        (PATH, None, 0),
    ],
)
def test_a_request_weighs_its_body_and_a_kilobyte_for_each_task(
    client_of: ClientOf, admin: Any, path: str, body: Any, weight: int
) -> None:
    client = client_of(admin)
    if body is None:
        client.get(path)
    else:
        client.post(path, body, format="json")

    counted = Window.objects.filter(scope="stored").values_list("requests", flat=True)
    assert sum(counted) == weight


def test_what_is_refused_for_want_of_a_permission_is_counted_once(
    settings: Any, client_of: ClientOf, user: Any
) -> None:
    _limits(settings, user=3)
    client = client_of(user)

    statuses = [client.get("/api/parcels/").status_code for _ in range(5)]
    assert statuses == [403] * 3 + [429] * 2


def test_throttles_load_before_any_view_does() -> None:
    code = (
        "import django; django.setup(); from pgjobs.api.throttles import throttling; import sys;"
        "assert 'rest_framework.views' not in sys.modules"
    )
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "myproj.settings"}
    command = [sys.executable, "-c", code]

    subprocess.run(command, check=True, cwd=PROJECT, env=environment)  # noqa: S603 # ours
