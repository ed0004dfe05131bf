"""Made-up requests to a real web server: every answer is one that the API description allows."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from process_fixtures import StartWeb
from programs import Program
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from throttles import SWITCHED_OFF

pytestmark = pytest.mark.django_db(transaction=True)

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
REQUESTS = 200
LONG_REQUESTS = 10_000
SHARDS = 4  # of the long form, side by side
TIMEOUT_SECONDS = 120


class Attacker:
    """Sends what the description allows and what it does not, and holds the answers against it."""

    def __init__(self, web_url: str, tokens: list[str]) -> None:
        self.callers = [_session(None), *map(_session, tokens)]
        self.schema = schemathesis.openapi.from_url(f"{web_url}/api/schema/?format=json")
        self.statuses: Counter[int] = Counter()
        # A stream of one that waits for its time would go on until then.
        answer = self.callers[-1].get(f"{web_url}/api/parcels/", headers={"Prefer": "wait=10"})
        self.ended_task_id: str = answer.json()["id"]
        self.task_ids: list[str] = [self.ended_task_id]

    def attack(self, requests_in_all: int, *, shard: int = 0, shards: int = 1) -> None:
        """Send so many requests for all operations, of which this is one part of several."""
        found: list[Any] = list(self.schema.get_all_operations())
        operations = [result.ok() for result in found]
        # Each is sent by every caller: to make one up takes longer than to send it.
        each = -(-requests_in_all // (len(self.callers) * len(GenerationMode) * len(operations)))
        for operation in operations[shard::shards]:
            for mode in GenerationMode:
                self._attack_one(operation, mode, each)

    def _attack_one(self, operation: Any, mode: GenerationMode, requests_each: int) -> None:
        sent = 0
        bounded = settings(
            max_examples=requests_each,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )

        @bounded
        @given(case=operation.as_strategy(generation_mode=mode))
        def run(case: Any) -> None:
            nonlocal sent
            if sent < requests_each:
                sent += 1
                self._send(case, known_task=mode is GenerationMode.POSITIVE and sent % 2 == 0)

        run()

    def _send(self, case: Any, *, known_task: bool) -> None:
        if known_task and "task_id" in (case.path_parameters or {}):
            is_stream = case.operation.path.endswith("/events/")
            case.path_parameters["task_id"] = self.ended_task_id if is_stream else self.task_ids[-1]
        if "Prefer" in (case.headers or {}):
            case.headers["Prefer"] = "wait=1"  # a wait is as long as it says
        for caller in self.callers:
            self._ask(case, caller)

    def _ask(self, case: Any, caller: requests.Session) -> None:
        answer = case.call(session=caller, timeout=TIMEOUT_SECONDS)
        self.statuses[answer.status_code] += 1
        if answer.status_code == 202:
            body = answer.json()
            self.task_ids.extend(body[name] for name in ("task_id", "id") if name in body)
        case.validate_response(answer, checks=CHECKS)


@pytest.fixture
def attacker(
    start_web: StartWeb,
    start_worker: Callable[..., Program],
    user: Any,
    admin: Any,
    token_of: Callable[[Any], str],
) -> Attacker:
    """A stranger, an ordinary user and a superuser."""
    start_worker()
    web = start_web(**SWITCHED_OFF, DJANGO_SETTINGS_MODULE="fast_password_settings")
    return Attacker(web.url, [token_of(user), token_of(admin)])


def _session(token: str | None) -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    if token:
        session.headers["Authorization"] = f"Token {token}"
    return session


@pytest.mark.long
@pytest.mark.parametrize(
    "shard", [0, *(pytest.param(shard, marks=pytest.mark.longest) for shard in range(1, SHARDS))]
)
def test_ten_thousand_requests_find_no_answer_that_is_not_described(
    attacker: Attacker, shard: int
) -> None:
    attacker.attack(LONG_REQUESTS, shard=shard, shards=SHARDS)

    assert attacker.statuses.total() >= LONG_REQUESTS // (SHARDS + 1)  # one has fewer operations
    assert max(attacker.statuses) < 500


def test_hundreds_of_requests_find_no_answer_that_is_not_described(attacker: Attacker) -> None:
    attacker.attack(REQUESTS)

    assert attacker.statuses.total() >= REQUESTS
    assert {200, 400, 404} <= attacker.statuses.keys()
