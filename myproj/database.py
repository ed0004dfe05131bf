"""Database settings by entry point: what each kind of process may hold and how long it waits.

| role | connections | limits |
|---|---|---|
| web | psycopg pool of a set size | answers fast or gives up: short waits, statement limits |
| worker | one persistent connection a thread | statements may be long, a transaction not idle |
| migrate | one | waits 5 s for a lock, then fails instead of queueing the traffic behind it |
| command | one | Postgres' defaults |
"""

import getpass
import os
from typing import Any, Literal

from psycopg.conninfo import conninfo_to_dict

from pgjobs.database.hanging import WatchedConnection

Role = Literal["web", "worker", "migrate", "command"]

# A dead peer is noticed after idle 5 s + 3 probes of 2 s; unacknowledged data after 10 s.
KEEPALIVES: dict[str, Any] = {
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "connect_timeout": 2,
}

# The same on the server's side, for which the client's settings do nothing: the session of a lost
# host ends, and lets go of its locks. Over a Unix socket they are ignored.
SERVER_KEEPALIVES: dict[str, int] = {
    "tcp_keepalives_idle": KEEPALIVES["keepalives_idle"],
    "tcp_keepalives_interval": KEEPALIVES["keepalives_interval"],
    "tcp_keepalives_count": KEEPALIVES["keepalives_count"],
    "tcp_user_timeout": KEEPALIVES["tcp_user_timeout"],
}

# Server-side limits a role asks for when it connects, in milliseconds.
SERVER_LIMITS: dict[Role, dict[str, int]] = {
    "web": {"statement_timeout": 8_000, "idle_in_transaction_session_timeout": 30_000},
    "worker": {"idle_in_transaction_session_timeout": 60_000, "idle_session_timeout": 0},
    "migrate": {"lock_timeout": 5_000},
    "command": {},
}

# How often a connection runs a statement before it prepares it.
PREPARE_THRESHOLD = 5

# How long a web request waits for a free connection: with `connect_timeout` under 3 s in all.
POOL_TIMEOUT_SECONDS = 2.0

# How long the pool goes on by itself with ever longer pauses while the database is away; after
# that the next request tries anew, so that an outage of an hour ends as soon as one of a second.
RECONNECT_SECONDS = 5.0


def database_settings(
    *, url: str, role: Role, pool_size: int, test_suffix: str
) -> dict[str, dict[str, Any]]:
    """Return Django's DATABASES for `url` (a libpq URL or conninfo; "" means PG* variables).

    `pool_size` is the number of connections one web process may hold.
    """
    target = conninfo_to_dict(url)
    name = target.pop("dbname", None) or os.environ.get("PGDATABASE") or _default_name()
    default: dict[str, Any] = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name,
        "USER": target.pop("user", ""),
        "PASSWORD": target.pop("password", ""),
        "HOST": target.pop("host", ""),
        "PORT": target.pop("port", ""),
        "TEST": {"NAME": f"test_{name}_{test_suffix}"},
    }
    # What the URL says wins over our defaults.
    default["OPTIONS"] = {**KEEPALIVES, **_server_options(role), **target}
    # What runs with every job is prepared (pgjobs/database/prepared.py); Django's own never are.
    default["OPTIONS"].setdefault("prepare_threshold", PREPARE_THRESHOLD)
    default.update(_holding(role))
    if role == "web":
        default["OPTIONS"]["pool"] = {
            "min_size": 1,
            "max_size": pool_size,
            "timeout": POOL_TIMEOUT_SECONDS,
            "reconnect_timeout": RECONNECT_SECONDS,
            "connection_class": WatchedConnection,
        }
    return {"default": default}


def _default_name() -> str:
    return os.environ.get("PGUSER") or getpass.getuser()


def _server_options(role: Role) -> dict[str, str]:
    limits = {**SERVER_KEEPALIVES, **SERVER_LIMITS[role]}
    return {"options": " ".join(f"-c {name}={value}" for name, value in limits.items())}


def _holding(role: Role) -> dict[str, Any]:
    if role == "worker":
        return {"CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True}
    return {"CONN_MAX_AGE": 0, "CONN_HEALTH_CHECKS": role == "web"}
