"""Made-up requests to a real web server: every answer is one that the API description allows."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from programs import Program
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

pytestmark = pytest.mark.django_db(transaction=True)

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
REQUESTS = 2_000
TIMEOUT_SECONDS = 10


class Attacker:
    """Sends what the description allows and what it does not, and holds the answers against it."""

    def __init__(self, web_url: str, token: str) -> None:
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["Authorization"] = f"Token {token}"
        self.schema = schemathesis.openapi.from_url(f"{web_url}/api/schema/?format=json")
        self.statuses: Counter[int] = Counter()
        self.task_ids: list[str] = []

    def attack(self, requests_in_all: int) -> None:
        found: list[Any] = list(self.schema.get_all_operations())
        operations = [result.ok() for result in found]
        each = -(-requests_in_all // (2 * len(operations)))
        for operation in operations:
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
        if known_task and "task_id" in (case.path_parameters or {}) and self.task_ids:
            case.path_parameters["task_id"] = self.task_ids[-1]
        answer = case.call(session=self.session, timeout=TIMEOUT_SECONDS)
        self.statuses[answer.status_code] += 1
        if answer.status_code == 202:
            body = answer.json()
            self.task_ids.extend(body[name] for name in ("task_id", "id") if name in body)
        case.validate_response(answer, checks=CHECKS)


@pytest.fixture
def attacker(
    web_url: str,
    start_worker: Callable[..., Program],
    admin: Any,
    token_of: Callable[[Any], str],
) -> Attacker:
    start_worker()
    return Attacker(web_url, token_of(admin))


def test_two_thousand_requests_find_no_answer_that_is_not_described(attacker: Attacker) -> None:
    attacker.attack(REQUESTS)

    assert attacker.statuses.total() >= REQUESTS
    assert {200, 400, 404} <= attacker.statuses.keys()
