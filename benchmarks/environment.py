"""What the driver tells the processes that measure: ports, process ids of servers, places.

Used in both virtual environments, so the standard library and psycopg are all it imports.
"""

import os
from dataclasses import asdict, dataclass
from pathlib import Path

import psycopg

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / "var" / "bench"
PEERS_PYTHON = HOME / "venv" / "bin" / "python"
NODE_MODULES = HOME / "node" / "node_modules"
MARKS = HOME / "marks.bin"
LOGS = HOME / "logs"

# What is appended to the names of databases, so that two versions of one system have their own.
DATABASE_SUFFIX = "BENCH_DATABASE_SUFFIX"

_PREFIX = "BENCH_"


@dataclass(frozen=True, kw_only=True)
class Servers:
    """The servers of one run. 0: it is missing."""

    pg_port: int = 0
    pg_pid: int = 0
    redis_port: int = 0
    redis_pid: int = 0
    rabbit_port: int = 0
    rabbit_pid: int = 0

    @classmethod
    def of_environment(cls) -> "Servers":
        """Return what the driver wrote."""
        return cls(
            **{name: int(os.environ.get(_PREFIX + name.upper(), "0")) for name in cls.names()}
        )

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of the fields."""
        return list(cls.__dataclass_fields__)

    def pids(self) -> list[int]:
        """Return the process ids of those that run."""
        return [pid for pid in (self.pg_pid, self.redis_pid, self.rabbit_pid) if pid]

    def environment(self) -> dict[str, str]:
        """Return it as variables for the processes that measure."""
        return {_PREFIX + name.upper(): str(value) for name, value in asdict(self).items()}


def url(database: str) -> str:
    """Return the URL of a database of the benchmark's Postgres."""
    return f"postgresql://postgres@127.0.0.1:{Servers.of_environment().pg_port}/{database}"


def connect(database: str = "postgres") -> psycopg.Connection:
    """Return a new connection in autocommit mode."""
    return psycopg.connect(url(database), autocommit=True)


def redis_url(database: int) -> str:
    """Return the URL of a database of the benchmark's Redis."""
    return f"redis://127.0.0.1:{Servers.of_environment().redis_port}/{database}"


def rabbit_url() -> str:
    """Return the URL of the benchmark's RabbitMQ."""
    return f"amqp://guest:guest@127.0.0.1:{Servers.of_environment().rabbit_port}//"
