"""API tokens by the API: obtained by a password, listed, revoked, held to their scope."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from importlib import import_module
from typing import Any
from uuid import RFC_4122, UUID

import pytest
from django.contrib.auth import authenticate
from django.contrib.auth.models import Permission
from django.db import connection, connections
from django.utils import timezone
from knox.models import AuthToken
from rest_framework.test import APIClient

from pgjobs.access.audit.models import Action, Entry
from pgjobs.api.errors import WrongCredentialsError
from pgjobs.api.throttles.models import Window
from pgjobs.api.tokens.models import Terms
from pgjobs.api.tokens.services import token_create

pytestmark = pytest.mark.django_db

URL = "/api/tokens/"
PASSWORD = "pw-of-root"


def _obtain(*, address: str = "192.0.2.1", **fields: Any) -> Any:
    body = {"username": "root", "password": PASSWORD, **fields}
    return APIClient(REMOTE_ADDR=address).post(URL, body, format="json")


def _client(token: str) -> APIClient:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Token {token}")
    return client


def test_a_password_obtains_a_token_that_lets_in(admin: Any) -> None:
    answer = _obtain(name="nightly report")

    assert answer.status_code == 201
    told = answer.json()
    assert told.keys() == {
        "id", "name", "scope", "created_at", "expires_at", "last_used_at", "token",
    }  # fmt: skip
    assert (told["name"], told["scope"], told["last_used_at"]) == ("nightly report", "full", None)
    assert _client(told["token"]).get("/api/tasks/").status_code == 200
    assert "no-store" in answer["Cache-Control"]


@pytest.mark.parametrize("wrong", [{"password": "wrong"}, {"username": "nobody"}])
def test_a_wrong_password_is_a_401_that_says_how_to_come_in(
    admin: Any, wrong: dict[str, str]
) -> None:
    answer = _obtain(**wrong)

    assert (answer.status_code, answer["WWW-Authenticate"]) == (401, "Token")
    assert answer.json()["code"] == "wrong_credentials"
    assert not AuthToken.objects.exists()


def test_who_is_shut_out_obtains_none(admin: Any) -> None:
    admin.is_active = False
    admin.save()

    assert _obtain().status_code == 401


@pytest.mark.parametrize(
    "fields",
    [{"scope": "write"}, {"name": "x" * 81}, {"name": 7}, {"expires_at": None}, {"username": ""},
     {"username": "a\0b"}, {"password": ["pw"]}],
)  # fmt: skip
def test_what_makes_no_sense_is_a_400(admin: Any, fields: dict[str, Any]) -> None:
    assert _obtain(**fields).status_code == 400
    assert not AuthToken.objects.exists()


def test_the_eleventh_failure_is_refused_at_the_page_as_well(admin: Any, client: Any) -> None:
    assert [_obtain(password="wrong").status_code for _ in range(11)] == [401] * 10 + [429]

    refused = _obtain()
    assert refused.status_code == 429
    assert 0 < int(refused["Retry-After"]) <= 3601
    form = {"username": "root", "password": PASSWORD}
    assert client.post("/login/", form, REMOTE_ADDR="192.0.2.1").status_code == 429
    assert _obtain(address="192.0.2.2").status_code == 201


def test_the_right_password_counts_as_no_failure(admin: Any) -> None:
    assert {_obtain().status_code for _ in range(30)} == {201}
    assert Window.objects.get(scope="login-address").requests == 0


def test_no_session_and_no_token_makes_a_token(admin: Any) -> None:
    client = APIClient()
    client.force_login(admin)
    for one in (client, _client(_obtain().json()["token"])):
        answer = one.post(URL, {"username": "root", "password": "wrong"}, format="json")
        assert answer.status_code == 401


def test_the_list_shows_ones_own_that_live_newest_first(admin: Any, user: Any) -> None:
    AuthToken.objects.create(user)
    AuthToken.objects.create(admin, expiry=timedelta(seconds=-1))
    made = [_obtain(name=name).json() for name in ("first", "second")]

    answer = _client(made[0]["token"]).get(URL)

    assert answer.json().keys() == {"next", "previous", "results"}
    rows = answer.json()["results"]
    assert [row["name"] for row in rows] == ["second", "first"]
    assert [row["id"] for row in rows] == [made[1]["id"], made[0]["id"]]
    assert {"token", "digest"} & rows[0].keys() == set()


def test_the_list_is_one_query_beside_who_asks(
    admin: Any, django_assert_max_num_queries: Any
) -> None:
    tokens = [_obtain().json()["token"] for _ in range(20)]
    client = _client(tokens[0])
    client.get(URL)

    with django_assert_max_num_queries(5):  # the token, its user's, its terms, a count, the list
        assert len(client.get(URL).json()["results"]) == 20


def test_a_revoked_token_lets_nobody_in(admin: Any) -> None:
    token, other = _obtain().json(), _obtain().json()
    client = _client(other["token"])

    assert client.delete(f"{URL}{token['id']}/").status_code == 204

    assert _client(token["token"]).get("/api/tasks/").status_code == 401
    assert client.delete(f"{URL}{token['id']}/").status_code == 404
    of_tokens = Entry.objects.filter(action__startswith="token").order_by("id")
    recorded = of_tokens.values_list("action", "actor_name")
    assert list(recorded) == [
        (Action.TOKEN_MADE, "root"), (Action.TOKEN_MADE, "root"), (Action.TOKEN_REVOKED, "root"),
    ]  # fmt: skip


def test_nobody_revokes_anothers(admin: Any, user: Any) -> None:
    token, _ = AuthToken.objects.create(user)
    terms = Terms.objects.get(token=token)

    answer = _client(_obtain().json()["token"]).delete(f"{URL}{terms.pk}/")

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert AuthToken.objects.filter(pk=token.pk).exists()


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_a_token_that_reads_does_nothing_else(admin: Any, method: str) -> None:
    client = _client(_obtain(scope="read").json()["token"])
    own = Terms.objects.get()

    for path in (
        "/api/parcels/",
        f"/api/parcels/{UUID(int=7)}/",
        "/api/tasks/bulk/",
        f"{URL}{own.pk}/",
    ):
        answer = getattr(client, method)(path, {}, format="json")
        assert answer.status_code == 403, path
        assert answer.json()["detail"] == "This token only reads."
    assert client.get("/api/tasks/").status_code == 200
    assert client.get("/api/parcels/").status_code == 202
    assert client.head("/api/tasks/").status_code == 200


def test_its_last_use_is_known_to_the_minute(admin: Any) -> None:
    client = _client(_obtain().json()["token"])
    client.get("/api/tasks/")
    first = Terms.objects.get().last_used_at
    client.get("/api/tasks/")

    assert timezone.now() - first < timedelta(minutes=1)
    assert Terms.objects.get().last_used_at == first
    Terms.objects.update(last_used_at=first - timedelta(minutes=1))
    client.get("/api/tasks/")
    assert Terms.objects.get().last_used_at > first


def test_one_user_has_so_many_that_live(admin: Any, settings: Any) -> None:
    settings.JOBS_TOKENS_PER_USER = 2
    AuthToken.objects.create(admin, expiry=timedelta(seconds=-1))
    first = _obtain().json()
    assert _obtain().status_code == 201

    answer = _obtain()
    assert (answer.status_code, answer.json()["code"]) == (409, "too_many_tokens")
    _client(first["token"]).delete(f"{URL}{first['id']}/")
    assert _obtain().status_code == 201


@pytest.mark.django_db(transaction=True)
def test_parallel_requests_make_no_more_than_that(admin: Any, settings: Any) -> None:
    settings.JOBS_TOKENS_PER_USER = 3
    settings.JOBS_THROTTLE_ANONYMOUS_PER_MINUTE = settings.JOBS_THROTTLE_LOGIN_FAILURES = 0
    together = threading.Barrier(8)

    def obtain(_number: int) -> int:
        together.wait()
        try:
            return int(_obtain().status_code)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as threads:
        statuses = list(threads.map(obtain, range(8)))

    assert sorted(statuses) == [201] * 3 + [409] * 5
    assert AuthToken.objects.count() == 3


def test_a_token_whose_terms_are_lost_lets_nobody_in(admin: Any) -> None:
    _token, key = AuthToken.objects.create(admin)
    Terms.objects.all().delete()

    assert _client(key).get("/api/tasks/").status_code == 401


def test_tokens_of_before_get_terms_that_sort_by_their_age(admin: Any) -> None:
    old, _ = AuthToken.objects.create(admin)
    AuthToken.objects.update(created=timezone.now() - timedelta(days=9))
    Terms.objects.all().delete()
    new = _obtain().json()
    fill = import_module("pgjobs.api.migrations.0004_terms_of_what_there_is").FILL
    with connection.cursor() as cursor:
        cursor.execute(fill)

    terms = Terms.objects.get(token=old)
    assert (terms.id.version, terms.id.variant, terms.scope) == (7, RFC_4122, "full")
    assert list(Terms.objects.order_by("-id").values_list("id", flat=True)) == [
        UUID(new["id"]), terms.id,
    ]  # fmt: skip


def test_a_password_changed_meanwhile_obtains_none(admin: Any) -> None:
    let_in = authenticate(username="root", password=PASSWORD)
    admin.set_password("another that is long")
    admin.save()

    with pytest.raises(WrongCredentialsError):
        token_create(user=let_in)
    admin.delete()
    with pytest.raises(WrongCredentialsError):
        token_create(user=let_in)


def test_what_a_token_that_reads_is_refused_is_counted(admin: Any, settings: Any) -> None:
    client = _client(_obtain(scope="read").json()["token"])
    settings.JOBS_THROTTLE_ANONYMOUS_PER_MINUTE = 5
    Window.objects.all().delete()

    statuses = [client.post("/api/parcels/", {}, format="json").status_code for _ in range(7)]
    assert statuses == [403] * 5 + [429] * 2


def test_staff_make_no_token_for_others_and_revoke_none_of_superusers(
    admin: Any, user: Any
) -> None:
    user.is_staff = True
    user.save()
    user.user_permissions.set(Permission.objects.filter(content_type__app_label="knox"))
    client = APIClient()
    client.force_login(user)
    token, _ = AuthToken.objects.create(user)

    roots, _ = AuthToken.objects.create(admin)
    listed = client.get("/admin/knox/authtoken/").content.decode()
    assert (token.token_key in listed, roots.token_key in listed) == (True, False)
    assert client.post("/admin/knox/authtoken/add/", {"user": admin.pk}).status_code == 403
    change = f"/admin/knox/authtoken/{token.pk}/change/"
    assert client.post(change, {"user": admin.pk}).status_code == 403
    for revoked in (roots, token):
        chosen = {"action": "delete_selected", "_selected_action": [revoked.pk], "post": "yes"}
        client.post("/admin/knox/authtoken/", chosen)
    assert list(AuthToken.objects.all()) == [roots]


def test_terms_go_with_their_token_whatever_deletes_it(admin: Any) -> None:
    AuthToken.objects.create(admin)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM knox_authtoken")

    assert not Terms.objects.exists()


def test_the_id_of_a_token_is_no_hash_of_it(admin: Any) -> None:
    told = _obtain().json()

    assert UUID(told["id"]).version == 7
    assert told["id"] not in AuthToken.objects.get().digest
