"""How often one address may ask: exact, by window, and never by what the client claims."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory
from django.urls import path
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from pgjobs.access.addresses import address_of
from pgjobs.api.throttles.models import Window
from pgjobs.api.throttles.refusals import throttled_by
from pgjobs.api.throttles.services import FORGOTTEN_AT_ONCE, Quota, count_request
from pgjobs.api.throttles.throttling import AddressThrottle

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


class SampleThrottle(AddressThrottle):
    scope = "sample"
    limit_setting = "SAMPLES_PER_HOUR"


class SampleApi(APIView):
    authentication_classes = ()
    permission_classes = (AllowAny,)
    throttle_classes = (SampleThrottle,)

    def post(self, request: Request) -> Response:
        return Response({})


@throttled_by(SampleThrottle)
def sample_page(request: HttpRequest) -> HttpResponse:
    return HttpResponse("fine")


urlpatterns = [path("api/sample/", SampleApi.as_view()), path("sample/", sample_page)]


@pytest.fixture(autouse=True)
def _two_an_hour(settings: Any) -> None:
    settings.SAMPLES_PER_HOUR = 2


def _count(address: str = "192.0.2.1", *, limit: int = 2, window_seconds: int = 60) -> float | None:
    (standing,) = count_request(Quota("sample", address, limit, window_seconds))
    return None if standing.may_pass else standing.seconds_left


def _end_all_windows() -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE pgjobs_api_window SET ends_at = clock_timestamp()")


def test_what_is_over_the_limit_waits_for_the_end_of_the_window() -> None:
    assert [_count(), _count()] == [None, None]
    assert 59 < _count() <= 60


def test_a_window_that_has_ended_starts_again() -> None:
    for _ in range(5):
        _count()
    _end_all_windows()

    assert [_count(), _count()] == [None, None]
    assert _count() is not None


def test_refused_requests_neither_lengthen_the_window_nor_count_on_for_ever() -> None:
    _count()
    ends_at = Window.objects.get().ends_at
    for _ in range(9):
        _count()

    window = Window.objects.get()
    assert (window.ends_at, window.requests) == (ends_at, 2)


def test_addresses_and_scopes_count_apart() -> None:
    for _ in range(3):
        _count()

    assert _count("192.0.2.2") is None
    assert count_request(Quota("other", "192.0.2.1", 2, 60))[0].may_pass


def test_windows_that_have_ended_do_not_pile_up() -> None:
    for number in range(FORGOTTEN_AT_ONCE + 5):
        _count(f"192.0.2.{number}")
    _end_all_windows()

    _count("198.51.100.1")
    assert Window.objects.count() == 6
    _count("198.51.100.2")
    assert Window.objects.count() == 2


# Reading the count, adding one and writing it back would not do: all requests that read 9 before
# the first of them wrote 10 would pass.
@pytest.mark.django_db(transaction=True)
def test_of_fifty_parallel_requests_exactly_as_many_as_allowed_pass() -> None:
    ready = Barrier(50)

    def ask(_number: int) -> bool:
        try:
            connection.ensure_connection()
            ready.wait()
            return _count(limit=10) is None
        finally:
            connection.close()

    with ThreadPoolExecutor(50) as threads:
        answers = Counter(threads.map(ask, range(50)))

    assert answers == {True: 10, False: 40}


@pytest.mark.parametrize("path", ["/sample/", "/api/sample/"])
def test_one_request_too_many_is_a_429_that_says_when_to_come_back(path: str) -> None:
    statuses = [Client().post(path).status_code for _ in range(2)]

    answer = Client().post(path)

    assert statuses == [200, 200]
    assert (answer.status_code, answer.json()["code"]) == (429, "throttled")
    assert 3500 < int(answer["Retry-After"]) <= 3601
    assert answer["Content-Type"] == "application/problem+json"


def test_a_browser_gets_a_page() -> None:
    for _ in range(2):
        Client().post("/sample/")

    answer = Client().post("/sample/", headers={"accept": "text/html"})

    assert answer.status_code == 429
    assert "Try again in 60 minutes" in answer.content.decode()


def test_both_doors_of_a_scope_count_together_and_looking_is_free() -> None:
    for _ in range(5):
        assert Client().get("/sample/").status_code == 200
    Client().post("/sample/")
    Client().post("/api/sample/")

    assert Client().post("/sample/").status_code == 429
    assert Client().post("/api/sample/").status_code == 429
    assert Client().get("/sample/").status_code == 200


def _address(**meta: str) -> str:
    return address_of(RequestFactory().get("/", **meta))  # type: ignore[arg-type] # it takes any


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", "unknown"),
        ("/run/web.sock", "unknown"),
    ],
)
def test_ipv6_counts_by_network_and_ipv4_by_address(remote: str, address: str) -> None:
    assert _address(REMOTE_ADDR=remote) == address


def test_without_a_proxy_the_forwarded_address_is_ignored() -> None:
    assert _address(REMOTE_ADDR="192.0.2.1", HTTP_X_FORWARDED_FOR="198.51.100.1") == "192.0.2.1"


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        ("198.51.100.1", "198.51.100.1"),
        ("203.0.113.66, 198.51.100.1", "198.51.100.1"),
        ("198.51.100.1:50001", "198.51.100.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("[2001:db8::1]", "2001:db8::/64"),
        ("[2001:db8::1]:50001", "2001:db8::/64"),
        ("[::ffff:198.51.100.1]:50001", "198.51.100.1"),
        ("made up", "192.0.2.1"),
        ("made:up", "192.0.2.1"),
        ("[made up", "192.0.2.1"),
        ("", "192.0.2.1"),
    ],
)
def test_behind_a_proxy_the_hop_that_the_proxy_wrote_counts(
    settings: Any, forwarded: str, address: str
) -> None:
    settings.JOBS_BEHIND_TLS_PROXY = True

    assert _address(REMOTE_ADDR="192.0.2.1", HTTP_X_FORWARDED_FOR=forwarded) == address


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, "198.51.100.1", "192.0.2.1"),
        (1, "203.0.113.66, 198.51.100.1, 198.51.100.2", "198.51.100.2"),
        (2, "203.0.113.66, 198.51.100.1, 198.51.100.2", "198.51.100.1"),
        (2, "198.51.100.2", "198.51.100.2"),
        (2, "", "192.0.2.1"),
    ],
)
def test_as_many_hops_are_true_as_there_are_proxies(
    settings: Any, proxies: int, forwarded: str, address: str
) -> None:
    settings.JOBS_BEHIND_TLS_PROXY = True
    settings.JOBS_TRUSTED_PROXIES = proxies

    assert _address(REMOTE_ADDR="192.0.2.1", HTTP_X_FORWARDED_FOR=forwarded) == address
