"""Threads: started when needed, kept, never more than allowed, and replaced when one is lost."""

import ctypes
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest
from programs import eventually

from pgjobs.worker.current import current_run
from pgjobs.worker.execute.threads import Pool, Threads

PATIENCE = 30.0


@pytest.fixture
def two(no_collection: None) -> Iterator[Threads]:
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


def _throw_into(thread_id: int, error: type[BaseException]) -> None:
    """Raise an exception in a thread, as code of a job can by the interpreter's C API."""
    set_async_exc = ctypes.pythonapi.PyThreadState_SetAsyncExc
    assert set_async_exc(ctypes.c_ulong(thread_id), ctypes.py_object(error)) == 1


def _never_end(began: "SimpleQueue[int]") -> None:
    """Say in which thread it runs, and go on until an exception is thrown into it."""
    began.put(threading.get_ident())
    while True:
        time.sleep(0.001)


def test_a_thread_that_an_exception_ends_is_replaced_and_its_call_told(two: Threads) -> None:
    broken: SimpleQueue[BaseException] = SimpleQueue()
    began: SimpleQueue[int] = SimpleQueue()

    for key in range(2):
        two.submit(key, partial(_never_end, began), broken.put)
    for _ in range(2):
        _throw_into(began.get(timeout=PATIENCE), SystemExit)

    for _ in range(2):
        assert isinstance(broken.get(timeout=PATIENCE), SystemExit)
    assert _call(two, 2)
    assert two.lost == 0


def test_threads_that_wait_for_work_and_are_ended_lose_no_call(two: Threads) -> None:
    for key in range(20):
        thread_id = _call(two, key)
        _throw_into(thread_id, SystemExit)

    assert _call(two, 20)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_breaks_while_it_is_replaced_is_replaced_all_the_same(two: Threads) -> None:
    began: SimpleQueue[int] = SimpleQueue()
    told: SimpleQueue[BaseException] = SimpleQueue()

    def break_again(error: BaseException) -> None:
        told.put(error)
        if threading.current_thread() is not threading.main_thread():
            raise error

    for key in range(2):
        two.submit(key, partial(_never_end, began), break_again)
    for _ in range(2):
        _throw_into(began.get(timeout=PATIENCE), SystemExit)
    for _ in range(2):
        told.get(timeout=PATIENCE)

    eventually(lambda: not _alive(two))
    two.tend()
    assert _call(two, 2)
    assert not two._running


def _alive(threads: Threads) -> list[threading.Thread]:
    return [thread for thread in threads._members if thread.is_alive()]


def test_a_thread_that_cannot_be_started_is_started_later(
    two: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    ended = threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        two.submit(1, ended.set)

    assert not ended.is_set()
    two.tend()
    assert ended.wait(PATIENCE)


def test_a_pool_gives_what_a_call_returns_or_raises() -> None:
    pool = Pool(1, name="test")

    assert pool.submit(divmod, 7, 2).result(PATIENCE) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        pool.submit(divmod, 7, 0).result(PATIENCE)
    assert isinstance(pool.submit(sys.exit).exception(PATIENCE), SystemExit)
    assert pool.submit(divmod, 7, 2).result(PATIENCE) == (3, 1)
    pool.shutdown()
    assert pool.submit(divmod, 7, 2).result(PATIENCE) == (3, 1)
    pool.close()


def test_a_call_that_outlives_its_run_gives_its_thread_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pgjobs.worker.execute.threads.OUTLIVING_SECONDS", 0.0)
    pool, go_on = Pool(1, name="test"), threading.Event()
    run: Any = SimpleNamespace(left=False, job=SimpleNamespace(id=1))
    token = current_run.set(run)
    pool.submit(go_on.wait, PATIENCE)
    current_run.reset(token)
    eventually(lambda: pool._running)

    assert pool.abandon_outliving() == []
    assert pool.lost == 0
    run.left = True
    eventually(lambda: pool.abandon_outliving() or pool.lost == 1)

    assert pool.submit(divmod, 7, 2).result(PATIENCE) == (3, 1)
    go_on.set()
    eventually(lambda: pool.lost == 0)
    pool.close()


def test_a_pool_that_is_closed_takes_no_call() -> None:
    pool = Pool(1, name="test")
    pool.close()

    with pytest.raises(RuntimeError, match="has stopped"):
        pool.submit(divmod, 7, 2)
