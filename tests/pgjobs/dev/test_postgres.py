"""The embedded Postgres, on real servers in directories of their own."""

import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from postgres_servers import (
    execute,
    has_ended,
    launched,
    launcher_process,
    mode,
    new_checkout,
    place_of_tests,
    query,
)
from programs import eventually

from pgjobs.dev import binaries, cluster, home
from pgjobs.dev.postgres import AlreadyRunningError, PostgresServer, embedded_url
from pgjobs.dev.postgres_errors import (
    ForeignDirectoryError,
    InitError,
    OtherMajorError,
    StartError,
    UnansweringServerError,
)
from pgjobs.dev.process import spawn


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with place_of_tests() as path:
        yield path


@pytest.fixture(scope="module")
def root(place: Path) -> Path:
    """A checkout that was used before; every test leaves it so."""
    path = new_checkout(place)
    with PostgresServer.for_checkout(path).running():
        pass
    return path


@pytest.fixture
def server(root: Path) -> PostgresServer:
    return PostgresServer.for_checkout(root)


@pytest.fixture
def new_server(place: Path) -> PostgresServer:
    return PostgresServer.for_checkout(new_checkout(place))


@contextmanager
def process_of_the_server_user(server: PostgresServer) -> Iterator[int]:
    """An innocent process that a careless launcher could take for the server, or kill."""
    process = spawn(["sleep", "60"], death_signal=signal.SIGKILL, account=server.home.account)
    with process:
        yield process.pid
        assert process.poll() is None, "the innocent process was killed"
        process.kill()


# --- Starting and stopping --------------------------------------------------------------------


def test_it_answers_with_room_for_200_connections_and_without_tcp(server: PostgresServer) -> None:
    with server.running() as url:
        settings = {
            name: query(url, f"SHOW {name}")
            for name in (
                "max_connections",
                "listen_addresses",
                "jit",
                "io_method",
                "shared_preload_libraries",
                "server_encoding",
                "data_directory",
            )
        }
        assert url == embedded_url(server.home.path.parents[1])
        assert query(url, "SELECT current_database()") == "jobs"
        assert mode(server.home.sockets) == 0o700
        rules = query(
            url, "SELECT array_agg(DISTINCT (type, auth_method)::text) FROM pg_hba_file_rules"
        )

    assert settings == {
        "max_connections": "200",
        "listen_addresses": "",
        "jit": "off",
        "io_method": "sync",
        "shared_preload_libraries": "pg_stat_statements",
        "server_encoding": "UTF8",
        "data_directory": str(server.home.data),
    }
    # Trust ends at the socket.
    assert set(rules) == {"(local,trust)", "(host,reject)"}


def test_data_survives_a_restart(server: PostgresServer) -> None:
    with server.running() as url:
        execute(url, "CREATE OR REPLACE VIEW kept AS SELECT 7 AS number")
    with server.running() as url:
        assert query(url, "SELECT number FROM kept") == 7


def test_a_failed_initdb_shows_its_message_and_does_not_poison_the_next_start(
    new_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(cluster, "INITDB_OPTIONS", ("--encoding=nonsense",))
        with pytest.raises(InitError, match="nonsense"), new_server.running():
            pass
    # As an interruption by `kill -9` leaves it.
    new_server.home.path.joinpath("data-unfinished").mkdir()
    new_server.home.path.joinpath("data-unfinished", "PG_VERSION").write_text("")

    with new_server.running() as url:
        assert query(url, "SELECT 1") == 1


def test_a_server_that_ends_while_starting_shows_the_end_of_its_log(
    new_server: PostgresServer,
) -> None:
    with new_server.running():
        pass
    new_server.home.data.joinpath("postgresql.conf").write_text("nonsense = 1\n")

    with pytest.raises(StartError, match="nonsense"), new_server.running():
        pass


# --- Launchers --------------------------------------------------------------------------------


@pytest.mark.parametrize("environment", [{}, {"WITHOUT_DEATH_SIGNAL": "1"}])
def test_kill_9_of_the_launcher_leaves_no_server(root: Path, environment: dict[str, str]) -> None:
    with launched(root, **environment) as it:
        it.launcher.kill()

        eventually(lambda: has_ended(it.server_pid))

    log = it.home.joinpath("postgres.log").read_text()
    assert "received fast shutdown request" in log
    assert "database system is shut down" in log


def test_a_second_launcher_is_refused_and_learns_the_url(
    root: Path, server: PostgresServer
) -> None:
    with launched(root) as it:
        with pytest.raises(AlreadyRunningError) as caught, server.running():
            pass

        assert caught.value.url == it.url
        assert query(it.url, "SELECT 1") == 1


def test_of_two_first_launchers_one_starts_and_the_other_is_refused(place: Path) -> None:
    root = new_checkout(place)
    processes = [launcher_process(root) for _ in range(2)]
    refused = []
    with ExitStack() as stack:
        for process in processes:
            stack.enter_context(process)
            stack.callback(process.terminate)
        eventually(lambda: any(process.poll() is not None for process in processes))
        refused = [process for process in processes if process.poll() is not None]
        [other] = [process for process in processes if process not in refused]
        assert refused[0].stdout is not None
        assert refused[0].stdout.read().startswith("AlreadyRunningError")
        assert other.poll() is None


def test_a_start_waits_for_the_server_of_a_killed_launcher_to_end(
    root: Path, server: PostgresServer
) -> None:
    with launched(root) as it:
        it.launcher.kill()
        with server.running() as url:
            assert has_ended(it.server_pid)
            assert query(url, "SELECT 1") == 1


# --- What crashes leave -----------------------------------------------------------------------


def test_a_stale_pid_file_with_the_pid_of_an_innocent_process(server: PostgresServer) -> None:
    with process_of_the_server_user(server) as pid:
        server.home.data.joinpath("postmaster.pid").write_text(f"{pid}\n{server.home.data}\n")

        with server.running() as url:
            assert query(url, "SELECT 1") == 1


def test_a_stale_socket_lock_with_the_pid_of_an_innocent_process(server: PostgresServer) -> None:
    with process_of_the_server_user(server) as pid:
        server.home.sockets.joinpath(".s.PGSQL.5432.lock").write_text(f"{pid}\n")

        with server.running() as url:
            assert query(url, "SELECT 1") == 1


def test_an_empty_pid_file(server: PostgresServer) -> None:
    server.home.data.joinpath("postmaster.pid").touch()

    with server.running() as url:
        assert query(url, "SELECT 1") == 1


def test_it_recovers_from_kill_9_of_the_server(server: PostgresServer) -> None:
    with server.running() as url:
        execute(url, "DROP VIEW IF EXISTS kept; CREATE VIEW kept AS SELECT 7 AS number")
        server.process.kill()
        server.process.wait()

    with server.running() as url:
        assert query(url, "SELECT number FROM kept") == 7


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_server_started_by_hand_is_left_alone(server: PostgresServer, place: Path) -> None:
    with server.running():
        pass  # what an earlier test left may still be ending; a start by hand does not wait for it
    elsewhere = place / "elsewhere"
    server.home.give(elsewhere)
    by_hand = spawn(
        [
            binaries.installed_binaries().program("postgres"),
            *("-D", str(server.home.data), "-k", str(elsewhere), "-h", ""),
        ],
        death_signal=signal.SIGINT,
        account=server.home.account,
        cwd="/",
    )
    with by_hand:
        eventually((elsewhere / ".s.PGSQL.5432").exists)

        with pytest.raises(UnansweringServerError), server.running():
            pass

        assert by_hand.poll() is None
        by_hand.send_signal(signal.SIGINT)


def test_a_server_on_another_directory_is_not_ours(
    server: PostgresServer, new_server: PostgresServer
) -> None:
    with server.running():
        new_server.home.path.mkdir(parents=True)
        # Its socket directory leads to the other server.
        new_server.home.sockets.symlink_to(server.home.sockets)

        assert server.facts() is not None
        assert new_server.facts() is None


# --- Refusals ---------------------------------------------------------------------------------


def test_data_of_another_major_version_is_refused_with_the_way_out(server: PostgresServer) -> None:
    version = server.home.data / "PG_VERSION"
    before = version.read_text()
    version.write_text("17\n")

    with pytest.raises(OtherMajorError) as caught, server.running():
        pass

    assert "Postgres 17" in str(caught.value)
    assert "pg_dump" in str(caught.value)
    assert "pg_restore" in str(caught.value)
    assert version.read_text() == "17\n"
    version.write_text(before)


def test_reset_refuses_a_directory_that_is_not_ours(new_server: PostgresServer) -> None:
    new_server.home.data.mkdir(parents=True)
    new_server.home.data.joinpath("thesis").touch()

    with pytest.raises(ForeignDirectoryError):
        new_server.reset()
    with pytest.raises(ForeignDirectoryError), new_server.running():
        pass

    assert [path.name for path in new_server.home.path.iterdir()] == ["data"]


def test_reset_refuses_while_the_server_runs(root: Path, server: PostgresServer) -> None:
    with launched(root) as it:
        with pytest.raises(AlreadyRunningError):
            server.reset()
        assert query(it.url, "SELECT 1") == 1


def test_reset_removes_the_data(server: PostgresServer) -> None:
    with server.running() as url:
        execute(url, "CREATE TABLE gone AS SELECT 7 AS number")

    server.reset()

    with server.running() as url:
        assert query(url, "SELECT to_regclass('gone')") is None


# --- Throwaway servers ------------------------------------------------------------------------


def test_throwaway_servers_run_side_by_side_and_leave_nothing(place: Path) -> None:
    first, second = PostgresServer.throwaway(), PostgresServer.throwaway()
    with first.running() as one, second.running() as other:
        assert one != other
        assert query(one, "SHOW fsync") == "off"
        assert query(other, "SHOW fsync") == "off"

    assert list(home.SHARED.iterdir()) == []


def test_the_leftover_of_a_killed_throwaway_is_swept_and_a_living_one_is_not(place: Path) -> None:
    with launched("throwaway") as killed, launched("throwaway") as living:
        killed.launcher.kill()
        eventually(lambda: has_ended(killed.server_pid))
        assert killed.home.exists()

        with PostgresServer.throwaway().running():
            assert not killed.home.exists()
            assert query(living.url, "SELECT 1") == 1
