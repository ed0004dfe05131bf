"""`manage.py pg` as a person or a Makefile runs it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from postgres_servers import (
    PROJECT,
    launched,
    lend_template,
    new_checkout,
    place_of_tests,
    query,
)

from myproj import env
from pgjobs.dev import binaries, home
from pgjobs.dev.postgres import PostgresServer

# Runs the command for another checkout, as if neither .env nor the environment named a server.
MANAGE = """
import sys
from pathlib import Path
from pgjobs.dev import home
from myproj import env
home.SHARED = home.MEMORY = Path(sys.argv[1])
env.BASE_DIR, env.HAS_OWN_DATABASE = Path(sys.argv[2]), False
from django.core.management import execute_from_command_line
execute_from_command_line(["manage.py", "pg", *sys.argv[3:]])
"""


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    with place_of_tests() as place:
        path = new_checkout(place)
        lend_template(path)
        yield path


@pytest.fixture(autouse=True)
def _checkout(root: Path, settings: Any) -> None:
    settings.BASE_DIR, settings.JOBS_DEV_DATABASE_URL = root, None


def pg(root: Path, *arguments: str) -> subprocess.Popen[str]:
    named = {"DATABASE_URL", *env.LIBPQ_VARIABLES}
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", MANAGE, str(home.SHARED), str(root), *arguments],
        cwd=PROJECT,
        env={name: value for name, value in os.environ.items() if name not in named},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


# --- run --------------------------------------------------------------------------------------


def test_run_gives_the_command_a_server_and_returns_its_status(root: Path) -> None:
    script = 'psql --no-psqlrc -Atc "SHOW fsync" "$DATABASE_URL"; exit 7'
    with pg(root, "run", "--throwaway", "--", "sh", "-c", script) as process:
        out, err = process.communicate()

    assert (out, err, process.returncode) == ("off\n", "", 7)
    assert not list(home.SHARED.glob("*throwaway*"))


def test_run_leaves_the_command_its_own_role(root: Path) -> None:
    """A worker by the settings of a command has other connections."""
    script = 'echo "role:$PROCESS_ROLE"'
    with pg(root, "run", "--throwaway", "--", "sh", "-c", script) as process:
        out, _err = process.communicate()

    assert out == "role:\n"


def test_run_returns_the_signal_of_the_command_as_a_shell_does(root: Path) -> None:
    with pg(root, "run", "--throwaway", "--", "sh", "-c", "kill -KILL $$") as process:
        assert process.wait() == 128 + signal.SIGKILL


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_run_passes_stop_signals_on(root: Path, number: signal.Signals) -> None:
    script = f"trap 'echo caught; exit 5' {number.value}; echo ready; while :; do sleep 0.02; done"
    with pg(root, "run", "--throwaway", "--", "sh", "-c", script) as process:
        assert first_line(process) == "ready"
        process.send_signal(number)

        assert first_line(process) == "caught"
        assert process.wait() == 5
    assert not list(home.SHARED.glob("*throwaway*"))


def test_run_in_the_foreground_until_asked_to_stop_and_only_once(root: Path) -> None:
    with pg(root, "run") as process:
        url = first_line(process).split()[-1]
        assert query(url, "SHOW fsync") == "on"

        with pg(root, "run") as second:
            _, err = second.communicate()
        assert second.returncode == 1
        assert err == f"CommandError: The embedded Postgres of this checkout runs already: {url}\n"

        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0
    assert PostgresServer.for_checkout(root).facts() is None


def test_run_tells_of_the_unasked_end_of_the_server(root: Path) -> None:
    with pg(root, "run") as process:
        first_line(process)
        facts = PostgresServer.for_checkout(root).facts()
        assert facts is not None
        os.kill(facts.pid, signal.SIGINT)

        assert process.wait() == 1
        assert process.stderr is not None
        assert "received fast shutdown request" in process.stderr.read()


def test_run_uses_a_server_that_the_environment_names() -> None:
    named = {**os.environ, "DATABASE_URL": "postgresql://postgres@/elsewhere?host=/nowhere"}
    command = [sys.executable, "manage.py", "pg", "run", "--throwaway"]
    with_command = [*command, "--", "sh", "-c", "echo $DATABASE_URL; exit 7"]

    ran, refused = (
        subprocess.run(  # noqa: S603
            each, cwd=PROJECT, env=named, capture_output=True, text=True, check=False
        )
        for each in (with_command, command)
    )

    assert (ran.stdout, ran.returncode) == (named["DATABASE_URL"] + "\n", 7)
    assert "that one is used" in ran.stderr
    assert (refused.stdout, refused.returncode) == ("", 1)
    assert "that one is used" in refused.stderr


# --- status, url, psql ------------------------------------------------------------------------


def test_url_and_psql_reach_the_running_server_from_another_process(root: Path) -> None:
    with launched(root) as it:
        with pg(root, "url") as process:
            out, err = process.communicate()
        assert (out, err, process.returncode) == (it.url + "\n", "", 0)
        assert query(out.strip(), "SELECT current_database()") == "jobs"

        with pg(root, "psql", "-Atc", "SELECT current_database()") as process:
            out, err = process.communicate()
        assert (out, err, process.returncode) == ("jobs\n", "", 0)


def test_status_tells_what_the_server_says(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with launched(root) as it, pytest.raises(SystemExit) as caught:
        call_command("pg", "status")

    out = capsys.readouterr().out
    assert caught.value.code == 0
    assert f"running, pid {it.server_pid}" in out
    assert str(it.home / "data") in out
    assert it.url in out


def test_status_of_a_stopped_server_is_1(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        call_command("pg", "status")

    assert caught.value.code == 1
    assert "not running" in capsys.readouterr().out


@pytest.mark.parametrize("action", ["url", "psql"])
def test_no_running_server_is_an_error(action: str) -> None:
    with pytest.raises(CommandError, match="pg run"):
        call_command("pg", action)


def test_missing_programs_name_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "PACKAGE", "no_such_package")

    with pytest.raises(CommandError, match="make install"):
        call_command("pg", "run", "--throwaway")


# --- reset and production ---------------------------------------------------------------------


def test_reset_asks_first(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with PostgresServer.for_checkout(root).running():
        pass
    data = PostgresServer.for_checkout(root).home.data

    monkeypatch.setattr("builtins.input", lambda _: "")
    with pytest.raises(CommandError, match="Nothing was deleted"):
        call_command("pg", "reset")
    assert data.exists()

    call_command("pg", "reset", "--yes")
    assert not data.exists()


def test_reset_refuses_while_the_server_runs(root: Path) -> None:
    with launched(root), pytest.raises(CommandError, match="runs already"):
        call_command("pg", "reset", "--yes")


@pytest.mark.parametrize("action", ["run", "status", "reset"])
def test_production_is_refused(action: str, settings: Any) -> None:
    settings.JOBS_DEV_REFUSED = True

    with pytest.raises(CommandError, match="development"):
        call_command("pg", action)


def test_production_has_the_url_of_its_own_server(
    settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.JOBS_DEV_REFUSED = True
    settings.JOBS_DEV_DATABASE_URL = "postgresql://own/server"

    call_command("pg", "url")

    assert capsys.readouterr().out == "postgresql://own/server\n"
