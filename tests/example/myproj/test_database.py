"""What each kind of process asks of the database."""

import pytest

from myproj.database import Role, database_settings
from pgjobs.database.hanging import WatchedConnection


def _settings(
    role: Role = "command", url: str = "postgresql://u:p@h:5433/name"
) -> dict[str, object]:
    return database_settings(url=url, role=role, pool_size=7, test_suffix="x")["default"]


@pytest.mark.parametrize("role", ["web", "worker", "migrate", "command"])
def test_every_role_finds_out_about_dead_peers(role: Role) -> None:
    options = _settings(role)["OPTIONS"]

    assert options.items() >= {"keepalives": 1, "keepalives_idle": 5, "connect_timeout": 2}.items()  # type: ignore[attr-defined]


def test_web_has_a_bounded_pool_that_gives_up_soon() -> None:
    options = _settings("web")["OPTIONS"]

    pool = options["pool"]  # type: ignore[index]
    bounds = {"min_size": 1, "max_size": 7, "timeout": 2.0, "reconnect_timeout": 5.0}
    assert pool == {**bounds, "connection_class": WatchedConnection}
    assert "statement_timeout=8000" in options["options"]  # type: ignore[index]
    assert "idle_in_transaction_session_timeout=30000" in options["options"]  # type: ignore[index]


def test_worker_threads_hold_their_connections_without_a_pool() -> None:
    worker = _settings("worker")

    assert worker["CONN_MAX_AGE"] is None
    assert "pool" not in worker["OPTIONS"]  # type: ignore[operator]


def test_migrate_waits_briefly_for_locks_and_as_long_as_it_takes_for_statements() -> None:
    options = _settings("migrate")["OPTIONS"]["options"]  # type: ignore[index]

    assert options.endswith(" -c lock_timeout=5000")
    assert "statement_timeout" not in options


@pytest.mark.parametrize("role", ["web", "worker", "migrate", "command"])
def test_the_server_notices_a_lost_host_of_every_role(role: Role) -> None:
    """A client's own keepalives do nothing for the server's side of the connection."""
    options = _settings(role)["OPTIONS"]["options"]  # type: ignore[index]

    for limit in ("tcp_keepalives_idle=5", "tcp_keepalives_interval=2", "tcp_keepalives_count=3"):
        assert f"-c {limit}" in options
    assert "-c tcp_user_timeout=10000" in options


def test_the_url_is_taken_apart_and_its_options_win() -> None:
    parsed = _settings(url="postgresql://u:p%40@h:5433/name?connect_timeout=9&sslmode=require")

    assert (parsed["USER"], parsed["PASSWORD"], parsed["HOST"], parsed["PORT"], parsed["NAME"]) == (
        "u", "p@", "h", "5433", "name",
    )  # fmt: skip
    assert parsed["OPTIONS"].items() >= {"connect_timeout": "9", "sslmode": "require"}.items()  # type: ignore[attr-defined]


def test_without_a_url_libpq_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGDATABASE", "of_libpq")

    parsed = _settings(url="")

    assert (parsed["NAME"], parsed["HOST"], parsed["USER"]) == ("of_libpq", "", "")
