"""The threads of a worker; one that does not come back, or that breaks, is replaced."""

import signal
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from asgiref.sync import SyncToAsync
from django.db import connections

from pgjobs.worker.current import current_run
from pgjobs.worker.database.connections import await_django_connection, close_hung_up
from pgjobs.worker.database.forking import end_copied_worker
from pgjobs.worker.database.sessions import thread_connections, tidy_connections
from pgjobs.worker.errors import ThreadBrokenError
from pgjobs.worker.logs import engine_logger

if TYPE_CHECKING:
    import psycopg

    from pgjobs.worker.run.run import Run

logger = engine_logger(__name__)

# How long a call of async code may go on after its run, before its thread is given up.
OUTLIVING_SECONDS = 5.0


class Call(NamedTuple):
    """A function to call, and what to call instead of its end when its thread breaks."""

    function: Callable[[], None]
    on_broken: Callable[[BaseException], None]


class Threads:
    """Up to `size` threads, started when needed and kept: each holds a database connection.

    Not an executor of the standard library, which replaces neither a thread that is lost nor one
    that an exception from outside ended. They are no daemons: an interpreter that shuts down under
    running threads may crash in them.
    """

    def __init__(self, size: int, *, name: str = "task") -> None:
        self._size = size
        self._name = name
        # A token for each call, and what it stands for; a thread that breaks between the two loses
        # a token, which its end puts back.
        self._tokens: SimpleQueue[bool] = SimpleQueue()
        self._waiting: dict[Hashable, Call] = {}
        self._running: dict[Hashable, Call] = {}
        # Each thread with the key of the call that it makes, if it makes one.
        self._members: dict[threading.Thread, list[Hashable]] = {}
        self._lost: set[threading.Thread] = set()
        self._guard = threading.Lock()
        self._closed = False

    @property
    def lost(self) -> int:
        """How many threads are lost at the moment: one that comes back after all is none."""
        return len(self._lost)

    @property
    def is_closed(self) -> bool:
        """Whether it takes no more calls."""
        return self._closed

    def resize(self, size: int) -> None:
        """Have at most so many threads from now on; a surplus ends, busy ones after their call."""
        with self._guard:
            self._size = size
            surplus = len(self._members) - size
        for _ in range(surplus):
            self._tokens.put(False)
        self._start_missing()

    def submit(
        self,
        key: Hashable,
        function: Callable[[], None],
        on_broken: Callable[[BaseException], None] = lambda _error: None,
    ) -> None:
        """Call `function`, which never raises, in a thread.

        `on_broken` is called in its place, with the cause, when the thread ends before it does.
        """
        with self._guard:
            self._waiting[key] = Call(function, on_broken)
        self._tokens.put(True)
        self._start_missing()

    def tend(self) -> None:
        """Replace threads that ended unseen, and start those that are missing."""
        for thread in list(self._members) + list(self._lost):
            if thread.ident is not None and not thread.is_alive():
                self._bury(thread, SystemExit())
        self._start_missing()

    def lose(self, key: Hashable) -> bool:
        """Give up the thread of a call, so that another may take its place; False: it has ended."""
        with self._guard:
            if self._waiting.pop(key, None):
                return True  # there was no thread for it yet
            if key not in self._running:
                return False
            del self._running[key]
            for thread in [each for each, keys in self._members.items() if key in keys]:
                self._lost.add(thread)
                del self._members[thread]
        self._start_missing()
        return True

    def close(self) -> None:
        """Let every thread end once its function has."""
        with self._guard:
            self._closed = True
            count = len(self._members)
        for _ in range(count):
            self._tokens.put(False)

    def _start_missing(self) -> None:
        """Start threads for the calls there are, as far as the system lets us."""
        while True:
            with self._guard:
                wanted = min(self._size, len(self._running) + len(self._waiting))
                if len(self._members) >= wanted:
                    return
                thread = threading.Thread(target=self._work, name=self._name)
                self._members[thread] = []
            if not self._start(thread):
                return
            if self._closed:
                self._tokens.put(False)

    def _start(self, thread: threading.Thread) -> bool:
        try:
            thread.start()
        except (RuntimeError, MemoryError) as error:  # the system gives no more threads
            with self._guard:
                self._members.pop(thread, None)
            logger.error("no thread can be started: %s", error)  # noqa: TRY400 # it says it all
            return False
        return True

    def _work(self) -> None:
        thread = threading.current_thread()
        keys = self._members[thread]
        try:
            while self._serve(thread, keys):
                end_copied_worker()
            self._leave(thread)
        except BaseException as error:  # noqa: BLE001 # of an engine's own, or thrown in from outside
            self._bury(thread, error)
        finally:
            connections.close_all()

    def _serve(self, thread: threading.Thread, keys: list[Hashable]) -> bool:
        """Make one call; False when this thread shall end. `keys` has the call meanwhile."""
        if not self._tokens.get():
            return False
        call = self._next_call(keys)
        if call is None:
            return True
        call.function()
        _let_signals_in()
        self._came_back(keys)
        return thread not in self._lost

    def _next_call(self, keys: list[Hashable]) -> Call | None:
        with self._guard:
            key = next(iter(self._waiting), None)
            if key is None:
                return None  # a thread broke, and its token was replaced
            keys.append(key)
            call = self._running[key] = self._waiting[key]
            del self._waiting[key]
            return call

    def _came_back(self, keys: list[Hashable]) -> None:
        with self._guard:
            self._running.pop(keys[0], None)
            keys.clear()

    def _leave(self, thread: threading.Thread) -> None:
        with self._guard:
            self._members.pop(thread, None)
            self._lost.discard(thread)
        self._start_missing()  # it may have been one too many when it was told to end

    def _bury(self, thread: threading.Thread, error: BaseException) -> None:
        """Replace a thread that broke, and tell its call.

        An exception from outside may break off this as well, at any point: what is left of it is
        done when the threads are tended.
        """
        logger.error("a thread broke and is replaced: %r", error)
        keys = self._members.get(thread, [])
        for key in keys:
            self._waiting.pop(key, None)
            if call := self._running.get(key):
                call.on_broken(error)
        with self._guard:
            for key in keys:
                self._running.pop(key, None)
            tokens = len(self._waiting)
        for _ in range(tokens):
            self._tokens.put(True)
        self._leave(thread)


def _let_signals_in() -> None:
    """Undo what a function blocked for its thread; programs that it starts would be deaf, too."""
    if blocked := signal.pthread_sigmask(signal.SIG_BLOCK, ()):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, blocked)


@dataclass(slots=True, eq=False)
class PoolCall:
    """A call that a thread of a pool makes."""

    run: "Run | None"
    connections: dict[int, "psycopg.Connection[Any]"]
    outlives_since: float | None = None

    @property
    def job_id(self) -> int:
        return self.run.job.id if self.run else 0


class Pool(ThreadPoolExecutor):
    """An executor over such threads, for what async code calls in threads.

    Each call leaves the thread's connections as the first one found them: other jobs share them.
    """

    def __init__(self, size: int, *, name: str, has_connection: bool = False) -> None:
        """`has_connection`: the worker counts on one for its thread, see OWN_CONNECTIONS."""
        super().__init__(1)  # an event loop takes no other kind of executor; starts no thread
        self._has_connection = has_connection
        self._own = Threads(size, name=name)
        self._running: dict[Future[Any], PoolCall] = {}

    @property
    def lost(self) -> int:
        """How many threads were given up, and have not come back."""
        return self._own.lost

    def submit[**P, T](
        self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]:
        """Call the function in a thread; what it returns or raises is the Future's."""
        if self._own.is_closed:
            raise RuntimeError("the worker of these threads has stopped")
        future: Future[T] = Future()
        call = partial(self._call, future, current_run.get(), partial(function, *args, **kwargs))
        self._own.submit(future, call, partial(_fail, future))
        return future

    def tend(self) -> None:
        """Start threads that are missing."""
        self._own.tend()

    def abandon(self, run: "Run") -> list["psycopg.Connection[Any]"]:
        """Give up the threads that calls of this run keep busy; return their connections."""
        return self._lose(lambda call: call.run is run)

    def connections(self) -> list[tuple["psycopg.Connection[Any]", "Run"]]:
        """Return the connections of threads that calls of runs keep busy, each with its run."""
        calls = list(self._running.values())
        return [(raw, call.run) for call in calls if call.run for raw in call.connections.values()]

    def abandon_outliving(self) -> list["psycopg.Connection[Any]"]:
        """Give up threads whose calls still go on some seconds after their run ended."""
        now = time.monotonic()
        for call in list(self._running.values()):
            if call.outlives_since is None and call.run is not None and call.run.left:
                call.outlives_since = now
        return self._lose(lambda call: now - (call.outlives_since or now) > OUTLIVING_SECONDS)

    def _lose(self, is_meant: Callable[["PoolCall"], bool]) -> list["psycopg.Connection[Any]"]:
        cut: list[psycopg.Connection[Any]] = []
        for future, call in list(self._running.items()):
            if is_meant(call) and self._own.lose(future):
                logger.error("a call of job %d goes on: its thread is lost", call.job_id)
                cut.extend(list(call.connections.values()))
        return cut

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Do nothing: every job can reach this executor, and all of them need it."""

    def close(self) -> None:
        """Let every thread end once its function has."""
        self._own.close()

    def _call(self, future: Future[Any], run: "Run | None", function: Callable[[], Any]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        self._running[future] = PoolCall(run, thread_connections())
        close_hung_up()
        if self._has_connection:
            await_django_connection()
        try:
            result = _calling(function)
        except BaseException as error:  # noqa: BLE001 # it is for the caller
            tidy_connections()
            future.set_exception(error)
        else:
            _set_result(future, run, result)
        finally:
            del self._running[future]


_sharing = threading.Lock()
_workers = 0
_executor_before = SyncToAsync.single_thread_executor


@contextmanager
def shared_orm_thread() -> Iterator[Pool]:
    """Have thread-sensitive calls of async code, such as the ORM's, run in a thread that is tended.

    Outside of a request asgiref has one thread for all of them in a process, so all workers of a
    process share it, and the connection in it.
    """
    global _workers, _executor_before  # noqa: PLW0603
    with _sharing:
        if not _workers:
            _executor_before = SyncToAsync.single_thread_executor
            SyncToAsync.single_thread_executor = Pool(1, name="orm", has_connection=True)
        _workers += 1
    pool = cast("Pool", SyncToAsync.single_thread_executor)
    try:
        yield pool
    finally:
        with _sharing:
            _workers -= 1
            if not _workers:
                SyncToAsync.single_thread_executor = _executor_before
                pool.close()


def _set_result(future: Future[Any], run: "Run | None", result: Any) -> None:
    fault = tidy_connections()
    if fault is None:
        future.set_result(result)
        return
    if run is not None:
        run.fail(fault)  # whether it lets the error through or not
    future.set_exception(fault)


def _calling(function: Callable[[], Any]) -> Any:
    try:
        return function()
    finally:
        end_copied_worker()


def _fail(future: Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(ThreadBrokenError(reason=type(error).__name__))
