"""Web servers that are replaced one by one under load: nothing they accepted is lost."""

import itertools
import signal
import threading
import time
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.client import HTTPException
from typing import Any

import pytest
from http_calls import call
from process_fixtures import StartWeb, free_port
from programs import Program, eventually
from sample.models import Parcel

from pgjobs.tracking.models import Task

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.long]

CLIENTS = 4
ROUNDS = 2
BETWEEN_SECONDS = 0.5
BROKEN = "web_answers_first:application"


def test_what_was_accepted_while_servers_were_replaced_is_there(
    start_web: StartWeb, start_worker: Callable[..., Program], admin: Any, token_of: Any
) -> None:
    start_worker()

    clients = _replace_servers(start_web, token_of(admin))

    assert len(clients.accepted) > 10 * ROUNDS
    assert clients.statuses == {202}
    eventually(lambda: Task.objects.filter(end_status=None).count() == 0)
    ended = Task.objects.filter(pk__in=clients.accepted, end_status="DONE")
    assert ended.count() == len(clients.accepted)
    # Whoever was not answered sent it again: what it asked for is there as well, and once.
    assert Parcel.objects.count() == len(clients.accepted)


def test_servers_that_answer_before_they_write_are_caught(
    start_web: StartWeb, admin: Any, token_of: Any
) -> None:
    clients = _replace_servers(start_web, token_of(admin), BROKEN, rounds=1)

    # Its ids are made up, so count.
    assert Task.objects.count() < len(clients.accepted)


class _Clients:
    """Create parcels over the API; who is not accepted by one server asks the other."""

    def __init__(self, ports: list[int], token: str) -> None:
        self._ports = ports
        self._token = token
        self._numbers = itertools.count()
        self._stopped = threading.Event()
        self.accepted: list[str] = []
        self.statuses: set[int] = set()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._create_parcels) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            for thread in threads:
                thread.join()

    def _create_parcels(self) -> None:
        while not self._stopped.is_set():
            self._create(next(self._numbers))

    def _create(self, number: int) -> None:
        body = {"name": f"parcel-{number}", "email": "ada@example.com"}
        for port in itertools.cycle(self._ports):
            try:
                answer = call(f"http://127.0.0.1:{port}/api/parcels/", token=self._token, body=body)
            except (urllib.error.URLError, HTTPException, OSError):
                time.sleep(0.02)  # it is being replaced
                continue
            self.statuses.add(answer.status)
            if answer.status == HTTPStatus.ACCEPTED:
                self.accepted.append(answer.json["task_id"])
                return


def _replace_servers(
    start_web: StartWeb,
    token: str,
    application: str = "myproj.asgi:application",
    rounds: int = ROUNDS,
) -> _Clients:
    """Replace each of two servers several times while clients are at work."""
    ports = [free_port(), free_port()]
    servers = {port: start_web(application, port=port).program for port in ports}
    clients = _Clients(ports, token)
    with clients.at_work():
        for port in ports * rounds:
            time.sleep(BETWEEN_SECONDS)
            servers[port].send(signal.SIGTERM)
            servers[port].end()
            servers[port] = start_web(application, port=port).program
    for server in servers.values():
        server.send(signal.SIGTERM)
        server.end()
    return clients
