"""Clients behind a network that cuts connections: one job for each key, whatever gets lost.

Four clients send the same keys at the same time, each until it has an answer. The full size is
EXACTLY_ONCE_KEYS=1000.
"""

import http.client
import json
import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from cutting_proxy import CuttingProxy
from django.db import connection
from process_fixtures import Web

from pgjobs.api.keys.models import Key

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.worker,
    pytest.mark.long,
]

KEYS = int(os.environ.get("EXACTLY_ONCE_KEYS", "120"))
CLIENTS = 4
CUT_SHARE = 0.3
SEED = 20261121
TIMEOUT_SECONDS = 10


@dataclass
class Crowd:
    """What the clients were told: by key the ids of tasks, and how often each thing came back."""

    port: int
    token: str
    task_ids: dict[str, set[str]] = field(default_factory=dict)
    statuses: Counter[int | str] = field(default_factory=Counter)

    def send_all(self, keys: int) -> None:
        numbers = [(client, key) for key in range(keys) for client in range(CLIENTS)]
        self.task_ids = {f"key-{key}": set() for key in range(keys)}
        with ThreadPoolExecutor(CLIENTS) as clients:
            list(clients.map(lambda each: self._send_until_answered(f"key-{each[1]}"), numbers))

    def _send_until_answered(self, key: str) -> None:
        while True:
            status, task_id = self._send(key)
            self.statuses[status] += 1
            if status == 202:
                self.task_ids[key].add(task_id)
                return
            assert status in (409, "cut"), status

    def _send(self, key: str) -> tuple[int | str, str]:
        """Return the status and the task's id of a whole answer, or that there was none."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_SECONDS)
        headers = {
            "Authorization": f"Token {self.token}",
            "Content-Type": "application/json",
            "Idempotency-Key": key,
            "Connection": "close",
        }
        body = json.dumps({"name": key, "email": f"{key}@example.org"})
        try:
            client.request("POST", "/api/parcels/", body, headers)
            answer = client.getresponse()
            text = answer.read()
            return answer.status, json.loads(text).get("task_id", "")
        except (OSError, http.client.HTTPException, json.JSONDecodeError):
            # The last: headers that were cut look like all there were, and a body of nothing.
            return "cut", ""
        finally:
            client.close()


def _jobs_by_key() -> Counter[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT task.input_data ->> 'name', count(*)"
            " FROM procrastinate_jobs AS job JOIN pgjobs_task AS task ON task.job_id = job.id"
            " GROUP BY 1"
        )
        return Counter(dict(cursor.fetchall()))


def _attack(url: str, token: str, keys: int) -> Crowd:
    server = f"host=127.0.0.1 port={urlsplit(url).port}"
    with CuttingProxy.cutting(server, share=CUT_SHARE, seed=SEED) as proxy:
        crowd = Crowd(proxy.port, token)
        crowd.send_all(keys)
        print(f"connections {proxy.connections}, cut {dict(proxy.cuts)}, {dict(crowd.statuses)}")
        assert proxy.cuts["request"]
        assert proxy.cuts["answer"]
    return crowd


def test_each_key_has_one_job_and_all_who_sent_it_are_told_of_that_one(
    web_url: str, admin: Any, token_of: Callable[[Any], str]
) -> None:
    crowd = _attack(web_url, token_of(admin), KEYS)

    assert _jobs_by_key() == {f"key-{key}": 1 for key in range(KEYS)}
    assert {len(ids) for ids in crowd.task_ids.values()} == {1}
    assert Key.objects.count() == KEYS
    assert crowd.statuses[202] == KEYS * CLIENTS


def test_a_server_that_forgets_keys_is_found_out(
    start_web: Callable[..., Web], admin: Any, token_of: Callable[[Any], str]
) -> None:
    """The twin of the test above."""
    crowd = _attack(start_web("web_without_keys:application").url, token_of(admin), KEYS // 4)

    assert min(_jobs_by_key().values()) >= CLIENTS
    assert max(len(ids) for ids in crowd.task_ids.values()) > 1
