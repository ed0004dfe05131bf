"""The campaign's Postgres: durable, owned by whoever runs an experiment, stopped as by a crash."""

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psycopg
from lost_hosts import Host
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from standbys import back_up

from pgjobs.dev import postgres
from pgjobs.dev.postgres import PostgresServer

ROOT = Path(__file__).resolve().parents[3]
DATABASE = "faults"
SETTINGS = ("server_version", "fsync", "synchronous_commit", "full_page_writes")


class Server:
    """An embedded Postgres in `home` with its defaults for durability; the main thread's."""

    def __init__(self, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self._postgres = PostgresServer.for_checkout(home)
        self._running = ExitStack()
        self.is_running = False

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The URL of the experiment's database, whether the server runs or not."""
        return self._postgres.home.url(DATABASE)

    def start(self) -> None:
        """Return when it answers; after a crash it has recovered by then."""
        self._running.enter_context(self._postgres.running())
        self.is_running = True

    def stop(self) -> None:
        """Stop it in an orderly way."""
        self._running.close()
        self.is_running = False

    def crash(self) -> None:
        """Do what `pg_ctl stop -m immediate` does: every process of the server quits at once."""
        self._postgres.process.send_signal(signal.SIGQUIT)
        self._postgres.process.wait()
        self.stop()

    def copy(self, home: Path) -> "Server":
        """Return a standby of this running server, in another home; it does not run yet."""
        standby = Server(home)
        standby._postgres.reset()
        target, source = standby._postgres.home, self._postgres.home
        target.claim()
        target.mark()
        back_up(source, target, "--write-recovery-conf")
        return standby

    @contextmanager
    def open_to(self, host: Host) -> Iterator[str]:
        """Restart the server so that it takes connections of the host; yields their DSN."""
        rules = self._postgres.home.data / "pg_hba.conf"
        before = rules.read_text()
        rules.write_text(f"{before}host all all {host.network} trust\n")
        try:
            with patch.dict(postgres.SETTINGS, listen_addresses=host.here):
                self.stop()
                self.start()
            parts: dict[str, Any] = conninfo_to_dict(self.url)
            yield make_conninfo(**{**parts, "host": host.here})
        finally:
            rules.write_text(before)

    def connect(self, database: str = DATABASE) -> psycopg.Connection[Any]:
        """Return a new connection in autocommit mode."""
        return psycopg.connect(self._postgres.home.url(database), autocommit=True)

    def fresh_database(self) -> None:
        """Make the experiment's database anew, with every migration applied."""
        template = self._template()
        with self.connect("postgres") as connection:
            for statement in (
                "DROP DATABASE IF EXISTS {database} WITH (FORCE)",
                "CREATE DATABASE {database} TEMPLATE {template}",
            ):
                names = {"database": DATABASE, "template": template}
                connection.execute(_filled(statement, **names))

    def settings(self) -> dict[str, str]:
        """Return what decides whether a commit that was acknowledged can be lost."""
        with self.connect("postgres") as connection:
            query = "SELECT name, setting FROM pg_settings WHERE name = ANY(%s)"
            found: dict[str, str] = dict(connection.execute(query, [list(SETTINGS)]).fetchall())
            return found

    def relax(self, settings: dict[str, str]) -> None:
        """Change settings for all sessions to come; {} takes every change back."""
        with self.connect("postgres") as connection:
            connection.execute("ALTER SYSTEM RESET ALL")
            for name, value in settings.items():
                statement = "ALTER SYSTEM SET {name} = {value}"
                connection.execute(
                    sql.SQL(statement).format(name=sql.Identifier(name), value=sql.Literal(value))
                )
            connection.execute("SELECT pg_reload_conf()")

    def _template(self) -> str:
        """Return the name of a migrated database, made when the migrations changed."""
        name = f"template_{_digest_of_migrations()}"
        with self.connect("postgres") as connection:
            query = "SELECT 1 FROM pg_database WHERE datname = %s"
            if connection.execute(query, [name]).fetchone():
                return name
            unfinished = f"{name}_unfinished"
            drop = "DROP DATABASE IF EXISTS {name} WITH (FORCE)"
            connection.execute(_filled(drop, name=unfinished))
            connection.execute(_filled("CREATE DATABASE {name}", name=unfinished))
            self._migrate(unfinished)
            rename = "ALTER DATABASE {unfinished} RENAME TO {name}"
            connection.execute(_filled(rename, unfinished=unfinished, name=name))
        return name

    def _migrate(self, database: str) -> None:
        subprocess.run(  # our own program
            [sys.executable, "manage.py", "migrate", "-v0"],
            cwd=ROOT,
            env={**os.environ, "DATABASE_URL": self._postgres.home.url(database)},
            check=True,
        )


def _filled(statement: str, **names: str) -> sql.Composed:
    identifiers = {key: sql.Identifier(name) for key, name in names.items()}
    return sql.SQL(statement).format(**identifiers)


def _digest_of_migrations() -> str:
    digest = hashlib.sha256((ROOT / "requirements" / "base.txt").read_bytes())
    for path in sorted(ROOT.glob("[mp]*/**/migrations/*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
