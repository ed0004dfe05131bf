"""Every setting of the library: its type, its default, what it may be, and what it is for.

    from pgjobs.conf import conf

    conf.JOBS_WORKER_THREADS  # what the project's settings say, else the default

The library reads the project's JOBS_ settings here and nowhere else, so that a project sets only
what differs. `checks.py` refuses what is misspelt or out of bounds.
"""

from collections.abc import Mapping
from typing import Any

from django.conf import settings

# Of JOBS_DEV_DATABASE_URL, where it says nothing.
AS_DATABASES = "DATABASES"


class Setting[T]:
    """One setting. Read from `conf` it is its value; `why` says what it is for, unit included."""

    name: str

    def __init__(
        self,
        default: T,
        why: str,
        *,
        within: tuple[float, float] | None = None,
        one_of: tuple[T, ...] = (),
        kind: type | None = None,
        may_be_none: bool = False,
        is_variable: bool = True,
    ) -> None:
        self.default = default
        self.why = why
        self.within = within
        self.one_of = one_of
        self.kind = kind or type(default)
        self.may_be_none = may_be_none
        # The example's environment sets it by a variable of the same name.
        self.is_variable = is_variable

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: object, owner: type) -> T:
        value: T = getattr(settings, self.name, self.default)
        return value

    def refusal(self, value: object) -> str:
        """Return what is wrong with a value and what was expected; "" if it may stand."""
        is_none = value is None and self.may_be_none
        if is_none or value == self.default or self._fits(value):
            return ""
        return f"{self.name} is {value!r}; expected {self._expected()}."

    def _fits(self, value: object) -> bool:
        kinds = (int, float) if self.kind is float else (self.kind,)
        if not isinstance(value, kinds) or (isinstance(value, bool) and self.kind is not bool):
            return False
        if self.within and not self.within[0] <= value <= self.within[1]:  # type: ignore[operator]
            return False
        return not self.one_of or value in self.one_of

    def _expected(self) -> str:
        if self.one_of:
            return " or ".join(map(repr, self.one_of))
        name = {int: "a whole number", float: "a number", bool: "True or False", str: "a text"}
        bounds = "" if self.within is None else " from {:g} to {:g}".format(*self.within)
        return f"{name[self.kind]}{bounds}"


class Conf:
    """The settings of the library, each once."""

    # --- Workers and runs

    JOBS_DATABASE_ALIAS = Setting(
        "default",
        "The entry of DATABASES that holds the jobs; of the engine of Postgres.",
        is_variable=False,
    )
    JOBS_WORKER_APP = Setting(
        "pgjobs.worker.default.app",
        "Dotted path of the worker's app: checks, eager mode and tests load it when they need it. "
        "The default one implements what apps declare.",
        is_variable=False,
    )
    JOBS_EAGER = Setting(
        False,
        "True runs a deferred task at once, in the caller's transaction: for tests and first "
        "experiments.",
    )
    JOBS_WORKER_DATABASE_URL = Setting(
        "",
        "The server that workers use, and that web listens on: Postgres itself, where "
        "DATABASES leads web through a pooler. Empty: the one of DATABASES.",
    )
    JOBS_WORKER_CONCURRENCY = Setting(
        100,
        "Async task functions one worker process runs at a time.",
        within=(1, 1000),
    )
    JOBS_WORKER_THREADS = Setting(
        10,
        "Plain (not async) task functions one worker process runs at a time, each in a thread "
        "that holds a connection.",
        within=(1, 1000),
    )
    JOBS_WORKER_POLL_SECONDS = Setting(
        2.0,
        "Seconds between looks at the queue when no notification comes: NOTIFY is only the "
        "speed-up.",
        within=(0.1, 3600),
    )
    JOBS_WORKER_HEARTBEAT_SECONDS = Setting(
        5.0,
        "Seconds between two signs of life of a worker. The others look for them, and for its "
        "connection, three times as often.",
        within=(0.1, 300),
    )
    JOBS_WORKER_LEASE_SECONDS = Setting(
        15.0,
        "A worker whose heartbeat stands still for so many seconds is dead: its jobs begin "
        "anew elsewhere.",
        within=(0.3, 3600),
    )
    JOBS_WORKER_LOOP_LAG_SECONDS = Setting(
        10.0,
        "Seconds a worker's event loop may be held up before the log says by what.",
        within=(0.1, 3600),
    )
    JOBS_WORKER_LOOP_DEAD_SECONDS = Setting(
        120.0,
        "Seconds after which a worker whose event loop is held up ends, so that others take "
        "over its jobs.",
        within=(1, 86_400),
    )
    JOBS_WORKER_GRACE_SECONDS = Setting(
        25.0,
        "Seconds a worker that is told to stop gives what runs to end; what runs on is handed "
        "back. Below the time after which the platform kills.",
        within=(0, 86_400),
    )
    JOBS_WORKER_MAX_JOBS = Setting(
        0,
        "A worker that ran so many jobs ends, so that a fresh one takes its place; 0 never. "
        "Only where something starts it again whatever its exit status.",
        within=(0, 1_000_000_000),
    )
    JOBS_WORKER_MAX_MEMORY_MB = Setting(
        0,
        "The same for a worker that takes so many megabytes of memory.",
        within=(0, 1_000_000_000),
    )
    JOBS_WORKER_MAX_LOST_THREADS = Setting(
        2,
        "So many threads of a worker may hang in functions over their hard limit; one more "
        "ends it.",
        within=(0, 1000),
    )
    JOBS_RESET_CONNECTIONS = Setting(
        "when_changed",
        "When the connections of task functions are closed: after a run that changed its "
        "session, as far as the worker sees it, or after each run that used one.",
        one_of=("when_changed", "always"),
    )
    JOBS_SOFT_LIMIT_SECONDS = Setting(
        1500.0,
        "Seconds after which a run is told that it takes too long. Tasks may have their own.",
        within=(0.1, 31_536_000),
    )
    JOBS_HARD_LIMIT_SECONDS = Setting(
        3600.0,
        "Seconds after which a run is ended. Tasks may have their own.",
        within=(0.1, 31_536_000),
    )
    JOBS_ATOMIC_SECONDS = Setting(
        30.0,
        "Seconds a task marked atomic may take: it holds a transaction open.",
        within=(0.1, 3600),
    )

    # --- What is stored, and for how long

    JOBS_ARGUMENTS_MAX_BYTES = Setting(
        64 * 1024,
        "Largest arguments of one job, in bytes of JSON: pass ids, not documents.",
        within=(1024, 64 * 1024 * 1024),
    )
    JOBS_RESULT_MAX_BYTES = Setting(
        256 * 1024,
        "Largest result of one job, in bytes of JSON.",
        within=(1024, 64 * 1024 * 1024),
    )
    JOBS_AUDIT_DAYS = Setting(
        365,
        "Days the record of who did what is kept.",
        within=(1, 36_500),
    )
    JOBS_RETENTION_DAYS = Setting(
        30,
        "Days an ended task is kept, with its arguments, result and attempts.",
        within=(1, 3650),
    )
    JOBS_OPEN_TASKS_PER_USER = Setting(
        10_000,
        "Open (PENDING or PROCESSING) tasks one user may have through the API; 0 is no limit.",
        within=(0, 1_000_000),
    )

    # --- Requests and the API

    JOBS_BEHIND_TLS_PROXY = Setting(
        False,
        "True only behind a proxy that ends TLS and always sets X-Forwarded-Proto: clients "
        "could forge it.",
    )
    JOBS_TRUSTED_PROXIES: Setting[int | None] = Setting(
        None,
        "Proxies before web that each add to X-Forwarded-For whom they spoke to: how many "
        "hops of it are true. By default 1 behind a TLS proxy, else 0, and the header is "
        "ignored.",
        within=(0, 10),
        kind=int,
    )
    JOBS_REQUEST_MAX_BYTES = Setting(
        128 * 1024,
        "Largest request body of the API, in bytes.",
        within=(1024, 64 * 1024 * 1024),
    )
    JOBS_IDEMPOTENCY_KEY_HOURS = Setting(
        24,
        "Hours an Idempotency-Key is remembered: as long as a client may go on sending its "
        "request again.",
        within=(1, 24 * 365),
    )
    JOBS_API_PRIORITY_MIN = Setting(
        -10,
        "The lowest priority that a caller of the API may ask for; staff who may change tasks "
        "have no bounds.",
        within=(-(2**31), 2**31 - 1),
    )
    JOBS_API_PRIORITY_MAX = Setting(
        0,
        "The highest priority that a caller of the API may ask for.",
        within=(-(2**31), 2**31 - 1),
    )
    JOBS_STREAMS_PER_USER = Setting(
        20,
        "Streams of events one user may hold open in one web process.",
        within=(0, 1_000_000),
    )
    JOBS_WAITS_PER_USER = Setting(
        50,
        "Requests of one user that may wait for a task's end (Prefer: wait) in one web "
        "process; others are answered at once.",
        within=(0, 1_000_000),
    )
    JOBS_TOKENS_PER_USER = Setting(
        50,
        "API tokens one user may obtain that have not expired; 0 is no limit.",
        within=(0, 1_000_000),
    )
    JOBS_THROTTLE_ANONYMOUS_PER_MINUTE = Setting(
        60,
        "Requests to the API in a minute of an address that does not say who it is. 0 is no limit.",
        within=(0, 1_000_000_000),
    )
    JOBS_THROTTLE_USER_PER_MINUTE = Setting(
        6_000,
        "Requests to the API in a minute of a user, by all tokens and sessions. 0 is no limit.",
        within=(0, 1_000_000_000),
    )
    JOBS_THROTTLE_TOKEN_PER_MINUTE = Setting(
        6_000,
        "Requests to the API in a minute of each token of a user. 0 is no limit.",
        within=(0, 1_000_000_000),
    )
    JOBS_THROTTLE_STORED_MB_PER_DAY = Setting(
        4_096,
        "Megabytes that the bodies of one user's requests to the API may bring in a day, and "
        "a kilobyte for the rows of each task: with JOBS_RETENTION_DAYS this bounds what is "
        "stored, but for results. 0 is no limit.",
        within=(0, 1_000_000),
    )
    JOBS_THROTTLE_LOGIN_FAILURES = Setting(
        10,
        "Failures to sign in that one address may have in a quarter of an hour, and for one "
        "name in an hour. 0 is no limit.",
        within=(0, 1_000_000_000),
    )

    # --- Development

    JOBS_DEV_DATABASE_URL: Setting[str | None] = Setting(
        AS_DATABASES,
        "The server that the commands of pgjobs.dev use; empty for that of the PG* variables, None "
        "for the embedded one. By default the one that DATABASES names.",
        may_be_none=True,
        is_variable=False,
    )
    JOBS_DEV_DEMO = Setting(
        "",
        "Dotted path of the job that `manage.py jobs dev` sends by the API and follows at its "
        "start: see DemoJob in pgjobs/dev/project.py. Empty: none.",
        is_variable=False,
    )
    JOBS_DEV_REFUSED = Setting(
        False,
        "True refuses the commands of pgjobs.dev, which are for development and tests only.",
        is_variable=False,
    )


conf = Conf()
# By name, in the order of their declaration.
SETTINGS: Mapping[str, Setting[Any]] = {
    name: one for name, one in vars(Conf).items() if isinstance(one, Setting)
}


def value_of(name: str) -> Any:
    """Return the value of a setting that is known by its name only, the project's own too."""
    return getattr(conf if name in SETTINGS else settings, name)
