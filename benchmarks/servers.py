"""The servers of one run, started below this process and ended with it, all on loopback."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.environment import HOME, LOGS, Servers
from benchmarks.http_load import free_port, wait_until_open
from pgjobs.dev.binaries import installed_binaries, may_reach
from pgjobs.dev.cluster import ENVIRONMENT
from pgjobs.dev.home import SHARED, server_account
from pgjobs.dev.process import Account, spawn

DEBIAN_POSTGRES = Path("/usr/lib/postgresql/15/bin")
POSTGRES_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "1GB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "30min",
    "shared_preload_libraries": "pg_stat_statements",
    "fsync": "on",
    "synchronous_commit": "on",
}
RABBIT_SCRIPTS = Path("/usr/lib/rabbitmq/lib")
START_SECONDS = 60.0
STOP_SECONDS = 30.0

# The Debian package that brings what a broker needs, by the broker's name.
PACKAGES = {"redis": "redis-server", "rabbit": "rabbitmq-server"}


@dataclass(frozen=True)
class Postgres:
    """The programs of a Postgres, the user it runs as, and where its data is."""

    programs: Path
    account: Account | None
    home: Path

    @property
    def data(self) -> Path:
        return self.home / "data"


@contextmanager
def running(*brokers: str) -> Iterator[Servers]:
    """Start Postgres and these brokers, yield where they are, stop them. A missing one is 0."""
    with ExitStack() as stack:
        found: dict[str, int] = {}
        for name in ("pg", *brokers):
            port = free_port()
            if pid := STARTS[name](port, stack):
                wait_until_open(port, START_SECONDS)
                found |= {f"{name}_port": port, f"{name}_pid": pid}
        servers = Servers(**found)
        _wait_until_postgres_answers(servers.pg_port)
        yield servers


def missing_brokers() -> list[str]:
    """Return the brokers that this machine does not have."""
    missing = [] if shutil.which("redis-server") else ["redis"]
    return [*missing, *([] if _rabbit_script() else ["rabbit"])]


def versions(port: int) -> dict[str, str]:
    """Return the versions of the servers that run, by name."""
    with psycopg.connect(host="127.0.0.1", port=port, user="postgres", dbname="postgres") as asked:
        row = asked.execute("SELECT split_part(version(), ' on ', 1)").fetchone()
    found = {"PostgreSQL": str(row[0]).removeprefix("PostgreSQL ") if row else "?"}
    if program := shutil.which("redis-server"):
        found["Redis"] = _said_by(program, "--version").split("v=")[1].split()[0]
    if script := _rabbit_script():
        found["RabbitMQ"] = script.parent.parent.name.partition("-")[2]
    return found


# --- Postgres --------------------------------------------------------------------------------


def _start_postgres(port: int, stack: ExitStack) -> int:
    server = _postgres()
    if not server.data.exists():
        _initdb(server)
    settings = [f"--{name}={value}" for name, value in POSTGRES_SETTINGS.items()]
    return _start(
        "postgres",
        [str(server.programs / "postgres"), "-D", str(server.data), "-p", str(port), *settings],
        stack,
        stop_by=signal.SIGINT,  # a fast shutdown: it does not wait for sessions to end
        account=server.account,
        env=ENVIRONMENT,
        cwd="/",
    )


def _postgres() -> Postgres:
    """Return Debian's Postgres if it is there, else the embedded one of this project."""
    programs = DEBIAN_POSTGRES
    if not (programs / "postgres").exists():
        programs = installed_binaries().directory
    account = server_account()
    if account and not may_reach(account, programs / "postgres"):
        raise SystemExit(
            f"{account.name} may not run {programs}/postgres, and root cannot: install"
            " Debian's postgresql-15, or run this as another user."
        )
    HOME.mkdir(parents=True, exist_ok=True)
    name = f"postgres-{_said_by(programs / 'postgres', '--version').split()[2]}"
    if account and not may_reach(account, HOME):
        return Postgres(programs, account, SHARED / f"pgjobs-bench-{name}")
    return Postgres(programs, account, HOME / name)


def _initdb(server: Postgres) -> None:
    server.home.mkdir(mode=0o755, exist_ok=True)
    server.data.mkdir(mode=0o700)
    if server.account:
        os.chown(server.data, server.account.uid, server.account.gid)
    options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"]
    with _log("initdb").open("wb") as log:
        process = spawn(
            [str(server.programs / "initdb"), "-D", str(server.data), *options],
            account=server.account,
            env=ENVIRONMENT,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    if process.wait() != 0:
        shutil.rmtree(server.data)
        raise SystemExit(f"initdb failed: see {_log('initdb')}")


def _wait_until_postgres_answers(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            psycopg.connect(host="127.0.0.1", port=port, user="postgres", dbname="postgres").close()
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


# --- Brokers, as Debian configures them ------------------------------------------------------


def _start_redis(port: int, stack: ExitStack) -> int:
    program = shutil.which("redis-server")
    if program is None:
        return 0
    data = HOME / "redis"
    data.mkdir(parents=True, exist_ok=True)
    options = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(data)]
    return _start("redis", [program, *options], stack)


def _start_rabbit(port: int, stack: ExitStack) -> int:
    script = _rabbit_script()
    if script is None:
        return 0
    data = HOME / "rabbit"
    data.mkdir(parents=True, exist_ok=True)
    # A name service of its own, or RabbitMQ would start one that outlives it.
    names = free_port()
    _start("epmd", ["epmd", "-address", "127.0.0.1", "-port", str(names)], stack)
    wait_until_open(names, START_SECONDS)
    variables = {**os.environ, **_rabbit_variables(data, port=port, names=names)}
    return _start("rabbit", [str(script), "-noinput"], stack, env=variables, cwd=data)


def _rabbit_variables(data: Path, *, port: int, names: int) -> dict[str, str]:
    return {
        "HOME": str(data),
        "ERL_EPMD_PORT": str(names),
        "RABBITMQ_MNESIA_BASE": str(data / "mnesia"),
        "RABBITMQ_LOG_BASE": str(data / "log"),
        "RABBITMQ_NODENAME": "bench@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(data / "plugins"),
        "RABBITMQ_ALLOW_INPUT": "1",  # the script becomes the server: its pid is the one to stop
    }


def _rabbit_script() -> Path | None:
    # Not the wrapper on PATH, which changes the user.
    found = sorted(RABBIT_SCRIPTS.glob("rabbitmq_server-*/sbin/rabbitmq-server"))
    return found[-1] if found else None


STARTS = {"pg": _start_postgres, "redis": _start_redis, "rabbit": _start_rabbit}


def _start(
    name: str,
    command: list[str],
    stack: ExitStack,
    *,
    stop_by: signal.Signals = signal.SIGTERM,
    **options: Any,
) -> int:
    """Start a server that `stack` stops; return its process id."""
    with _log(name).open("wb") as log:
        process = spawn(
            command,
            death_signal=stop_by,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            **options,
        )
    stack.callback(_stop, process, stop_by)
    return process.pid


def _stop(process: subprocess.Popen[bytes], stop_by: signal.Signals) -> None:
    process.send_signal(stop_by)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _log(name: str) -> Path:
    LOGS.mkdir(parents=True, exist_ok=True)
    return LOGS / f"{name}.log"


def _said_by(program: str | Path, *arguments: str) -> str:
    return subprocess.run(  # noqa: S603 # a program of our own choice
        [program, *arguments], check=True, capture_output=True, text=True
    ).stdout
