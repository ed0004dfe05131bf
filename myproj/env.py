"""What differs between deployments: every environment variable, read once.

Values are read from `.env` too; the process environment wins. A bad value stops the start, and all
of them are reported at once.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from environs import Env, EnvValidationError, ValidationError
from environs import validate as valid
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

BASE_DIR = Path(__file__).resolve().parent.parent
DEVELOPMENT_SECRET_KEY = "development-only-key-refused-in-production"  # noqa: S105 # nosec B105

# libpq's own variables: any of these names a server, so none of ours is started.
LIBPQ_VARIABLES = ("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE")


def _is_conninfo(text: str) -> None:
    try:
        target = conninfo_to_dict(text)
    except ProgrammingError:
        target = {}
    unread = bool(text) and not target
    ports = str(target.get("port", "")).split(",")
    if unread or _has_bare_separators(text) or not all(map(_is_port, ports)):
        # What libpq says quotes what it could not read: a piece of the password.
        raise ValidationError(
            "Not a Postgres URL, postgresql://user:password@host:port/name. Write @ / : and % of a"
            " user name or password as %40 %2F %3A and %25."
        )


def _has_bare_separators(text: str) -> bool:
    """Tell whether a password with @ or / would be read as a host, and named in errors."""
    scheme, found, rest = text.partition("://")
    if not found or " " in scheme:
        return False
    authority, _, path = rest.partition("?")[0].partition("/")
    return authority.count("@") > 1 or "@" in path


def _is_port(text: str) -> bool:
    return not text or text.isdecimal()


_env = Env(eager=False)
_env.read_env(str(BASE_DIR / ".env"), recurse=False)

# --- Where this runs -------------------------------------------------------------------------

# "production" refuses everything that is only safe on a developer's machine.
ENVIRONMENT: str = _env.str(
    "ENVIRONMENT", "development", validate=valid.OneOf(["development", "production"])
)
IN_PRODUCTION = ENVIRONMENT == "production"

# Signs sessions and links; at least 32 characters of your own in production.
SECRET_KEY: str = _env.str("SECRET_KEY", DEVELOPMENT_SECRET_KEY)

# Earlier keys, by comma: what they signed stays valid, and new things are signed by SECRET_KEY.
SECRET_KEY_FALLBACKS: list[str] = _env.list("SECRET_KEY_FALLBACKS", [])

# Django's debug pages. Off by default in development too: they replace the answers of the API.
DEBUG: bool = _env.bool("DEBUG", False)

# Host names served, by comma. By default this machine only, so that a deployment that forgot
# ENVIRONMENT=production answers nobody.
ALLOWED_HOSTS: list[str] = _env.list("ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"])

# Origins trusted for forms behind a proxy that ends TLS: https://jobs.example.com, by comma.
CSRF_TRUSTED_ORIGINS: list[str] = _env.list("CSRF_TRUSTED_ORIGINS", [])

# True only behind a proxy that ends TLS and always sets X-Forwarded-Proto: clients could forge it.
JOBS_BEHIND_TLS_PROXY: bool = _env.bool("JOBS_BEHIND_TLS_PROXY", False)

# Proxies before web that each add to X-Forwarded-For whom they spoke to: how many hops of it are
# true. By default 1 behind a TLS proxy, else 0, and the header is ignored.
JOBS_TRUSTED_PROXIES: int | None = _env.int(
    "JOBS_TRUSTED_PROXIES", None, validate=valid.Range(0, 10)
)

# "text" for people, "json" for machines.
LOG_FORMAT: str = _env.str(
    "LOG_FORMAT", "json" if IN_PRODUCTION else "text", validate=valid.OneOf(["text", "json"])
)
LOG_LEVEL: str = _env.str(
    "LOG_LEVEL",
    "INFO",
    validate=valid.OneOf(["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]),
)

# --- Database --------------------------------------------------------------------------------

# postgresql://user:password@host:port/name; libpq's PG* variables do as well. With neither,
# development uses the embedded Postgres of this checkout.
DATABASE_URL: str = _env.str("DATABASE_URL", "", validate=_is_conninfo)
HAS_OWN_DATABASE = bool(DATABASE_URL) or any(os.environ.get(name) for name in LIBPQ_VARIABLES)

# The same for workers, and for what web listens on: Postgres itself, where DATABASE_URL leads the
# web through a pooler.
JOBS_WORKER_DATABASE_URL: str = _env.str("JOBS_WORKER_DATABASE_URL", "", validate=_is_conninfo)

# Connections one web process may hold.
DATABASE_POOL_SIZE: int = _env.int("DATABASE_POOL_SIZE", 10, validate=valid.Range(1, 1000))

# --- Accounts --------------------------------------------------------------------------------

# The superuser that `manage.py migrate` creates once; nothing when it exists or the name is empty.
DJANGO_SUPERUSER_USERNAME: str = _env.str("DJANGO_SUPERUSER_USERNAME", "")
DJANGO_SUPERUSER_EMAIL: str = _env.str("DJANGO_SUPERUSER_EMAIL", "")
DJANGO_SUPERUSER_PASSWORD: str = _env.str("DJANGO_SUPERUSER_PASSWORD", "")

# Hours the link in an activation mail works.
JOBS_ACTIVATION_LINK_HOURS: int = _env.int(
    "JOBS_ACTIVATION_LINK_HOURS", 24, validate=valid.Range(1, 24 * 365)
)

# Days after which an account that was opened and never activated is deleted.
JOBS_UNACTIVATED_DAYS: int = _env.int("JOBS_UNACTIVATED_DAYS", 7, validate=valid.Range(1, 3650))

# --- Mail ------------------------------------------------------------------------------------

# Where people reach the site, for links in mails: a worker has no request to take it from.
LOCAL_URL = "http://localhost:8000"
JOBS_PUBLIC_URL: str = _env.str(
    "JOBS_PUBLIC_URL",
    LOCAL_URL,
    validate=valid.URL(schemes={"http", "https"}, require_tld=False),
)

# The mail server, in production. Development writes mails to files in var/mail/ instead.
EMAIL_HOST: str = _env.str("EMAIL_HOST", "localhost")
EMAIL_PORT: int = _env.int("EMAIL_PORT", 25, validate=valid.Range(1, 65_535))

# Both or neither: with neither the server is used without signing in.
EMAIL_HOST_USER: str = _env.str("EMAIL_HOST_USER", "")
EMAIL_HOST_PASSWORD: str = _env.str("EMAIL_HOST_PASSWORD", "")

# True speaks TLS after STARTTLS, usually on port 587.
EMAIL_USE_TLS: bool = _env.bool("EMAIL_USE_TLS", False)

# The sender of mails.
DEFAULT_FROM_EMAIL: str = _env.str("DEFAULT_FROM_EMAIL", "webmaster@localhost")

# --- Jobs ------------------------------------------------------------------------------------

# True runs a deferred task at once, in the caller's transaction: for tests and first experiments.
JOBS_EAGER: bool = _env.bool("JOBS_EAGER", False)

# Async task functions one worker process runs at a time.
JOBS_WORKER_CONCURRENCY: int = _env.int(
    "JOBS_WORKER_CONCURRENCY", 100, validate=valid.Range(1, 1000)
)

# Plain (not async) task functions one worker process runs at a time, each in a thread that holds
# a connection.
JOBS_WORKER_THREADS: int = _env.int("JOBS_WORKER_THREADS", 10, validate=valid.Range(1, 1000))

# Seconds between looks at the queue when no notification comes: NOTIFY is only the speed-up.
JOBS_WORKER_POLL_SECONDS: float = _env.float(
    "JOBS_WORKER_POLL_SECONDS", 2.0, validate=valid.Range(0.1, 3600)
)

# Seconds between two signs of life of a worker. The others look for them, and for its connection,
# three times as often.
JOBS_WORKER_HEARTBEAT_SECONDS: float = _env.float(
    "JOBS_WORKER_HEARTBEAT_SECONDS", 5.0, validate=valid.Range(0.1, 300)
)

# A worker whose heartbeat stands still for so many seconds is dead: its jobs begin anew elsewhere.
JOBS_WORKER_LEASE_SECONDS: float = _env.float(
    "JOBS_WORKER_LEASE_SECONDS", 15.0, validate=valid.Range(0.3, 3600)
)

# Seconds a worker's event loop may be held up before the log says by what.
JOBS_WORKER_LOOP_LAG_SECONDS: float = _env.float(
    "JOBS_WORKER_LOOP_LAG_SECONDS", 10.0, validate=valid.Range(0.1, 3600)
)

# Seconds after which a worker whose event loop is held up ends, so that others take over its jobs.
JOBS_WORKER_LOOP_DEAD_SECONDS: float = _env.float(
    "JOBS_WORKER_LOOP_DEAD_SECONDS", 120.0, validate=valid.Range(1, 86_400)
)

# Seconds a worker that is told to stop gives what runs to end; what runs on is handed back. Below
# the time after which the platform kills.
JOBS_WORKER_GRACE_SECONDS: float = _env.float(
    "JOBS_WORKER_GRACE_SECONDS", 25.0, validate=valid.Range(0, 86_400)
)

# A worker that ran so many jobs, or takes so many megabytes of memory, ends so that a fresh one
# takes its place; 0 never. Only where something starts it again whatever its exit status.
JOBS_WORKER_MAX_JOBS: int = _env.int(
    "JOBS_WORKER_MAX_JOBS", 0, validate=valid.Range(0, 1_000_000_000)
)
JOBS_WORKER_MAX_MEMORY_MB: int = _env.int(
    "JOBS_WORKER_MAX_MEMORY_MB", 0, validate=valid.Range(0, 1_000_000_000)
)

# So many threads of a worker may hang in functions over their hard limit; one more ends it.
JOBS_WORKER_MAX_LOST_THREADS: int = _env.int(
    "JOBS_WORKER_MAX_LOST_THREADS", 2, validate=valid.Range(0, 1000)
)

# When the connections of task functions are closed: after a run that changed its session, as far as
# the worker sees it, or after each run that used one.
JOBS_RESET_CONNECTIONS: str = _env.str(
    "JOBS_RESET_CONNECTIONS", "when_changed", validate=valid.OneOf(("when_changed", "always"))
)

# Seconds after which a run is told that it takes too long, and after which it is ended. Tasks may
# have their own.
JOBS_SOFT_LIMIT_SECONDS: float = _env.float(
    "JOBS_SOFT_LIMIT_SECONDS", 1500.0, validate=valid.Range(0.1, 31_536_000)
)
JOBS_HARD_LIMIT_SECONDS: float = _env.float(
    "JOBS_HARD_LIMIT_SECONDS", 3600.0, validate=valid.Range(0.1, 31_536_000)
)

# Seconds a task marked atomic may take: it holds a transaction open.
JOBS_ATOMIC_SECONDS: float = _env.float(
    "JOBS_ATOMIC_SECONDS", 30.0, validate=valid.Range(0.1, 3600)
)

# Largest arguments of one job, in bytes of JSON: pass ids, not documents.
JOBS_ARGUMENTS_MAX_BYTES: int = _env.int(
    "JOBS_ARGUMENTS_MAX_BYTES", 64 * 1024, validate=valid.Range(1024, 64 * 1024 * 1024)
)

# Largest result of one job, in bytes of JSON.
JOBS_RESULT_MAX_BYTES: int = _env.int(
    "JOBS_RESULT_MAX_BYTES", 256 * 1024, validate=valid.Range(1024, 64 * 1024 * 1024)
)

# Largest request body of the API, in bytes.
JOBS_REQUEST_MAX_BYTES: int = _env.int(
    "JOBS_REQUEST_MAX_BYTES", 128 * 1024, validate=valid.Range(1024, 64 * 1024 * 1024)
)

# Hours an Idempotency-Key is remembered: as long as a client may go on sending its request again.
JOBS_IDEMPOTENCY_KEY_HOURS: int = _env.int(
    "JOBS_IDEMPOTENCY_KEY_HOURS", 24, validate=valid.Range(1, 24 * 365)
)

# The priorities that a caller of the API may ask for; staff who may change tasks have no bounds.
JOBS_API_PRIORITY_MIN: int = _env.int(
    "JOBS_API_PRIORITY_MIN", -10, validate=valid.Range(-(2**31), 2**31 - 1)
)
JOBS_API_PRIORITY_MAX: int = _env.int(
    "JOBS_API_PRIORITY_MAX", 0, validate=valid.Range(-(2**31), 2**31 - 1)
)

# Streams of events one user may hold open in one web process.
JOBS_STREAMS_PER_USER: int = _env.int(
    "JOBS_STREAMS_PER_USER", 20, validate=valid.Range(0, 1_000_000)
)

# Requests of one user that may wait for a task's end (Prefer: wait) in one web process; others are
# answered at once.
JOBS_WAITS_PER_USER: int = _env.int("JOBS_WAITS_PER_USER", 50, validate=valid.Range(0, 1_000_000))

# API tokens one user may obtain that have not expired; 0 is no limit.
JOBS_TOKENS_PER_USER: int = _env.int("JOBS_TOKENS_PER_USER", 50, validate=valid.Range(0, 1_000_000))

# Days the record of who did what is kept.
JOBS_AUDIT_DAYS: int = _env.int("JOBS_AUDIT_DAYS", 365, validate=valid.Range(1, 36_500))

# Days an ended task is kept, with its arguments, result and attempts.
JOBS_RETENTION_DAYS: int = _env.int("JOBS_RETENTION_DAYS", 30, validate=valid.Range(1, 3650))

# Open (PENDING or PROCESSING) tasks one user may have through the API; 0 is no limit.
JOBS_OPEN_TASKS_PER_USER: int = _env.int(
    "JOBS_OPEN_TASKS_PER_USER", 10_000, validate=valid.Range(0, 1_000_000)
)

# Requests to the API in a minute: of an address that does not say who it is, of a user, and of each
# token of a user, whose requests count for the user as well. 0 is no limit.
JOBS_THROTTLE_ANONYMOUS_PER_MINUTE: int = _env.int(
    "JOBS_THROTTLE_ANONYMOUS_PER_MINUTE", 60, validate=valid.Range(0, 1_000_000_000)
)
JOBS_THROTTLE_USER_PER_MINUTE: int = _env.int(
    "JOBS_THROTTLE_USER_PER_MINUTE", 6_000, validate=valid.Range(0, 1_000_000_000)
)
JOBS_THROTTLE_TOKEN_PER_MINUTE: int = _env.int(
    "JOBS_THROTTLE_TOKEN_PER_MINUTE", 6_000, validate=valid.Range(0, 1_000_000_000)
)

# Megabytes that the bodies of one user's requests to the API may bring in a day, and a kilobyte for
# the rows of each task: with JOBS_RETENTION_DAYS this bounds what is stored, but for results. 0 is
# no limit.
JOBS_THROTTLE_STORED_MB_PER_DAY: int = _env.int(
    "JOBS_THROTTLE_STORED_MB_PER_DAY", 4_096, validate=valid.Range(0, 1_000_000)
)

# Failures to sign in that one address may have in a quarter of an hour, and for one name in an
# hour. 0 is no limit.
JOBS_THROTTLE_LOGIN_FAILURES: int = _env.int(
    "JOBS_THROTTLE_LOGIN_FAILURES", 10, validate=valid.Range(0, 1_000_000_000)
)

# Sign-ups that one address may try in an hour, form and API together. 0 is no limit.
JOBS_THROTTLE_SIGNUP_PER_HOUR: int = _env.int(
    "JOBS_THROTTLE_SIGNUP_PER_HOUR", 20, validate=valid.Range(0, 1_000_000_000)
)

# Days an API token lives.
JOBS_TOKEN_DAYS: int = _env.int("JOBS_TOKEN_DAYS", 30, validate=valid.Range(1, 3650))

# --- Refuse what is bad or unsafe, all of it at once -------------------------------------------


def _bad_values() -> list[str]:
    try:
        _env.seal()
    except EnvValidationError as error:
        messages = cast("Mapping[str, list[str]]", error.error_messages)
        return [f"{name}: {' '.join(why)}" for name, why in messages.items()]
    return []


def _unsafe_in_production() -> list[str]:
    problems = []
    if SECRET_KEY == DEVELOPMENT_SECRET_KEY or len(SECRET_KEY) < 32:
        problems.append("SECRET_KEY: set a key of your own, at least 32 characters, in production.")
    if any(key == DEVELOPMENT_SECRET_KEY or len(key) < 32 for key in SECRET_KEY_FALLBACKS):
        problems.append("SECRET_KEY_FALLBACKS: each must be your own, at least 32 characters.")
    if DEBUG:
        problems.append("DEBUG: must be false in production; it shows settings to visitors.")
    if not ALLOWED_HOSTS or any(host in ("*", ".") for host in ALLOWED_HOSTS):
        problems.append("ALLOWED_HOSTS: name the hosts served in production; '*' is refused.")
    if JOBS_PUBLIC_URL == LOCAL_URL:
        problems.append("JOBS_PUBLIC_URL: say where people reach the site; links in mails need it.")
    if JOBS_EAGER:
        problems.append("JOBS_EAGER: must be false in production; jobs would run in web requests.")
    if not HAS_OWN_DATABASE:
        problems.append(
            "DATABASE_URL: set it (or PGHOST and its kin) in production; the embedded Postgres "
            "is for development and tests only."
        )
    return problems


_problems = _bad_values()
if not _problems and IN_PRODUCTION:
    _problems = _unsafe_in_production()
if _problems:
    # Not an exception: web server, worker and commands would each bury it in something else.
    sys.exit("\n  ".join(["The environment (or .env) is not usable:", *_problems]))
