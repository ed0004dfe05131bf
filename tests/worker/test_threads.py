"""Threads: started when needed, kept, never more than allowed, and replaced when one is lost."""

import threading
from collections.abc import Iterator

import pytest
from programs import eventually

from tasks.engine.threads import Threads


@pytest.fixture
def two() -> Iterator[Threads]:
    threads = Threads(2)
    yield threads
    threads.close()


def _call(threads: Threads, key: int) -> int:
    """Return the thread in which a function runs."""
    ran: list[int] = []
    threads.submit(key, lambda: ran.append(threading.get_ident()))
    return eventually(lambda: ran)[0]


def test_a_thread_is_kept_for_the_next_function(two: Threads) -> None:
    first = _call(two, 1)
    eventually(lambda: not two._running)

    assert _call(two, 2) == first


def test_there_are_never_more_threads_than_allowed(two: Threads) -> None:
    free, began = threading.Event(), []

    def wait() -> None:
        began.append(threading.get_ident())
        free.wait(10)

    for key in range(6):
        two.submit(key, wait)
    eventually(lambda: len(began) == 2)
    free.set()
    eventually(lambda: len(began) == 6)

    assert len(set(began)) == 2


def test_a_lost_thread_is_replaced_and_ends_when_it_comes_back(two: Threads) -> None:
    free = threading.Event()
    ran: list[threading.Thread] = []

    def hang() -> None:
        ran.append(threading.current_thread())
        free.wait(10)

    for key in (1, 2):
        two.submit(key, hang)
    eventually(lambda: len(ran) == 2)

    assert two.lose(1)
    assert two.lost == 1
    assert _call(two, 3) not in {thread.ident for thread in ran}
    free.set()
    eventually(lambda: sum(thread.is_alive() for thread in ran) == 1)
    assert two.lost == 0


def test_a_function_that_has_ended_is_not_lost(two: Threads) -> None:
    _call(two, 1)
    eventually(lambda: not two._running)

    assert not two.lose(1)
    assert two.lost == 0


def test_threads_end_when_they_are_closed() -> None:
    threads = Threads(1)
    ran: list[threading.Thread] = []
    threads.submit(1, lambda: ran.append(threading.current_thread()))
    eventually(lambda: ran)

    threads.close()

    ran[0].join(10)
    assert not ran[0].is_alive()
