"""Signing in: wrong passwords are few, whoever has the right one is let in."""

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock

import pytest
import requests
from django.contrib.auth.hashers import PBKDF2PasswordHasher, make_password
from django.db import connection, connections
from django.test import Client
from process_fixtures import Web
from programs import PATIENCE_SECONDS

from pgjobs.access import hashing
from pgjobs.api.http.media_types import is_readable_content_type
from pgjobs.api.throttles import login
from pgjobs.api.throttles.models import Window

pytestmark = pytest.mark.django_db

ADDRESS = "192.0.2.1"
PAGES = ("/login/", "/admin/login/")


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long answers were held back."""
    seconds: list[float] = []
    monkeypatch.setattr(login, "pause", seconds.append)
    return seconds


def _try(secret: str = "", *, name: str = "root", address: str = ADDRESS, page: str = "") -> Any:
    form = {"username": name, "password": secret or "wrong"}
    return Client(REMOTE_ADDR=address).post(page or "/login/", form)


@pytest.mark.parametrize("names", [["root"], [f"name {n}" for n in range(11)]])
def test_from_one_address_the_eleventh_failure_is_refused(admin: Any, names: list[str]) -> None:
    tries = [_try(name=names[n % len(names)], page=PAGES[n % 2]).status_code for n in range(11)]

    assert tries == [200] * 10 + [429]
    refused = _try("pw-of-root", page="/admin/login/")
    assert refused.status_code == 429
    assert 0 < int(refused["Retry-After"]) <= 3600
    assert "Signing in failed too often" in refused.content.decode()


def test_who_has_the_right_password_signs_in_as_often_as_they_like(admin: Any) -> None:
    assert {_try("pw-of-root").status_code for _ in range(30)} == {302}
    assert [_try().status_code for _ in range(10)] == [200] * 10


def test_who_is_signed_in_guesses_no_more_than_others(admin: Any, user: Any) -> None:
    client = Client(REMOTE_ADDR=ADDRESS)
    client.force_login(user)
    form = {"username": "root", "password": "wrong"}

    assert [client.post("/login/", form).status_code for _ in range(11)] == [200] * 10 + [429]


@pytest.mark.parametrize("name", ["root", " root", "ROOT  ", "\uff52oot"])
def test_a_name_is_one_name_however_it_is_written(admin: Any, name: str) -> None:
    for number in range(11):
        _try(name=name if number % 2 else "root", address=f"198.51.100.{number}")

    assert Window.objects.get(scope="login-name").requests == 11


@pytest.mark.parametrize("charset", ["utf-7", "unicode_escape", "raw_unicode_escape"])
def test_no_charset_smuggles_what_no_text_has(charset: str) -> None:
    assert not is_readable_content_type(f"multipart/form-data; boundary=x; charset={charset}")


def test_nobody_locks_another_out(admin: Any, pauses: list[float]) -> None:
    for number in range(50):
        assert _try(address=f"198.51.100.{number}", name="ROOT").status_code == 200

    assert _try("pw-of-root").status_code == 302
    assert pauses == sorted(pauses)
    assert pauses[:10] == [0.0] * 10
    assert pauses[-1] == login.SLOWEST_SECONDS


def test_a_name_from_one_address_waits_longer_than_the_address(admin: Any) -> None:
    for _ in range(10):
        _try()
    Window.objects.filter(scope="login-address").delete()

    assert _try().status_code == 429
    assert _try(name="another").status_code == 200


def test_without_a_limit_none_is_refused(admin: Any, settings: Any) -> None:
    settings.JOBS_THROTTLE_LOGIN_FAILURES = 0

    assert {_try().status_code for _ in range(12)} == {200}


@pytest.mark.django_db(transaction=True)
def test_parallel_failures_are_counted_as_well(admin: Any) -> None:
    def fail(_number: int) -> int:
        try:
            return int(_try().status_code)
        finally:
            connection.close()

    with ThreadPoolExecutor(20) as threads:
        assert Counter(threads.map(fail, range(20))) == {200: 10, 429: 10}


def test_so_many_passwords_are_hashed_at_a_time(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.PASSWORD_HASHERS = ["pgjobs.access.hashing.BoundedPBKDF2PasswordHasher"]
    running, peak, all_wait = Counter[str](), [], threading.Event()

    def encode(*_args: Any) -> str:
        running["now"] += 1
        peak.append(running["now"])
        all_wait.wait(0.02)  # others come, if they may
        running["now"] -= 1
        return "hash"

    monkeypatch.setattr(PBKDF2PasswordHasher, "encode", encode)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(make_password, ["secret"] * 8))

    assert max(peak) <= hashing.PLACES


@pytest.mark.parametrize(
    ("options", "in_transaction", "closed"),
    [({"pool": True}, False, 1), ({"pool": True}, True, 0), ({}, False, 0)],
)
def test_a_connection_of_the_pool_is_given_back_before(
    settings: Any, options: dict[str, Any], in_transaction: bool, closed: int
) -> None:
    settings.PASSWORD_HASHERS = ["pgjobs.access.hashing.BoundedPBKDF2PasswordHasher"]
    mine = mock.Mock(settings_dict={"OPTIONS": options}, in_atomic_block=in_transaction)

    with mock.patch.object(connections, "all", return_value=[mine]):
        make_password("secret")

    assert mine.close.call_count == closed


@pytest.mark.worker
@pytest.mark.django_db(transaction=True)
def test_who_hashes_holds_no_connection(start_web: Callable[..., Web], admin: Any) -> None:
    """More sign in at once than there are connections, and none of them is a 503.

    On a busy machine the last of one address are turned away before they come to a hash.
    """
    web = start_web(DATABASE_POOL_SIZE="1", JOBS_THROTTLE_LOGIN_FAILURES="0")
    with ThreadPoolExecutor(6) as threads:
        statuses = Counter(threads.map(_sign_in, [web.url] * 6))

    assert statuses.keys() <= {200, 429}
    assert statuses[200]


def _sign_in(url: str) -> int:
    session = requests.Session()
    page = session.get(f"{url}/login/", timeout=PATIENCE_SECONDS)
    token = page.text.partition('name="csrfmiddlewaretoken" value="')[2].partition('"')[0]
    form = {"username": "root", "password": "wrong", "csrfmiddlewaretoken": token}
    return session.post(f"{url}/login/", data=form, timeout=PATIENCE_SECONDS).status_code
