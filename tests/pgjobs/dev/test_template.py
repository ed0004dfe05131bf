"""The template of throwaway servers, on real servers."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from django.apps import apps
from postgres_servers import PROJECT, lend_template, new_checkout, place_of_tests, query

from pgjobs.dev import binaries, home, template
from pgjobs.dev.errors import MigrationsFailedError
from pgjobs.dev.postgres import PostgresServer
from pgjobs.dev.template import TEMPLATE_DATABASE, Template

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root acts as another user")

# Arguments: SHARED, then the root of a checkout. Prints which initdb the server comes from.
RUN = """
import sys
from pathlib import Path
import django, psycopg
django.setup()
from pgjobs.dev import home
from pgjobs.dev.postgres import PostgresServer
from pgjobs.dev.template import Template
home.SHARED = home.MEMORY = Path(sys.argv[1])
server = PostgresServer.throwaway(Template(Path(sys.argv[2])).copy_to)
with server.running() as url, psycopg.connect(url) as connection:
    print(*connection.execute("SELECT system_identifier FROM pg_control_system()").fetchone())
"""


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with place_of_tests() as path:
        yield path


@pytest.fixture
def root(place: Path) -> Iterator[Path]:
    """A checkout that has a template."""
    path = new_checkout(place)
    lend_template(path)
    yield path
    shutil.rmtree(path)


def which_initdb(root: Path, place: Path) -> bytes:
    """Return what all copies of a data directory have in common."""
    with tempfile.TemporaryDirectory(dir=place) as path:
        copy = home.Home(Path(path), None)
        Template(root).copy_to(copy)
        return (copy.data / "global" / "pg_control").read_bytes()[:8]


def data_of(root: Path) -> Path:
    return home.template_home(root).data


def test_a_server_begins_with_an_empty_and_a_migrated_database(root: Path) -> None:
    server = PostgresServer.throwaway(Template(root).copy_to)
    tables = "SELECT count(*) FROM pg_tables WHERE tablename = 'pgjobs_task'"

    with server.running() as url:
        assert query(url, tables) == 0
        assert query(server.home.url(TEMPLATE_DATABASE), tables) == 1
        assert query(url, "SHOW fsync") == "off"


@pytest.mark.long
def test_a_spoiled_template_is_made_again_once_by_runs_at_the_same_time(
    root: Path, place: Path
) -> None:
    before = which_initdb(root, place)
    _lose_a_file(data_of(root))
    runs = [
        subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", RUN, str(home.SHARED), str(root)],
            cwd=PROJECT,
            stdout=subprocess.PIPE,
        )
        for _ in range(2)
    ]

    one, other = (run.communicate()[0] for run in runs)

    assert one == other != b""
    assert int(one).to_bytes(8, sys.byteorder) == which_initdb(root, place) != before


def test_runs_after_each_other_share_one_initdb(root: Path, place: Path) -> None:
    assert which_initdb(root, place) == which_initdb(root, place)


def _lose_a_file(data: Path) -> None:
    _largest_table(data).unlink()


def _cut_a_file_short(data: Path) -> None:
    os.truncate(_largest_table(data), 8192)


def _be_written_to(data: Path) -> None:
    (data / "PG_VERSION").write_text((data / "PG_VERSION").read_text())


def _be_killed_while_it_is_made(data: Path) -> None:
    (data.parent / "made-of").unlink()


def _largest_table(data: Path) -> Path:
    return max(data.glob("base/*/*"), key=lambda path: path.stat().st_size)


@pytest.mark.parametrize(
    "happens", [_lose_a_file, _cut_a_file_short, _be_written_to, _be_killed_while_it_is_made]
)
def test_what_is_not_as_it_was_made_is_found_out(
    root: Path, happens: Callable[[Path], None]
) -> None:
    assert Template(root).is_whole()

    happens(data_of(root))

    assert not Template(root).is_whole()


def test_other_migrations_need_another_template(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = apps.get_app_config("pgjobs")
    shutil.copytree(Path(ours.path, "migrations"), tmp_path / "migrations")
    monkeypatch.setattr(ours, "path", str(tmp_path))
    assert Template(root).is_whole()

    with (tmp_path / "migrations" / "0001_create_tables.py").open("a") as migration:
        migration.write("# changed")

    assert not Template(root).is_whole()


def test_other_programs_need_another_template(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    newer = replace(binaries.installed_binaries(), version="18.99.0")

    monkeypatch.setattr(template, "installed_binaries", lambda: newer)

    assert not Template(root).is_whole()


def test_migrations_that_fail_end_the_run_and_leave_no_template(
    root: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _lose_a_file(data_of(root))
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "no_such_settings")

    with pytest.raises(MigrationsFailedError):
        which_initdb(root, place)

    assert not data_of(root).exists()
    assert not Template(root).is_whole()


@as_root
def test_each_user_has_a_template_of_their_own(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert data_of(root) == root / "var" / "test-template-0" / "data"
    nobody = home.server_account()
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: nobody.uid)
        assert data_of(root) == root / "var" / f"test-template-{nobody.uid}" / "data"


@as_root
def test_what_root_makes_in_the_checkout_of_another_leaves_them_room(place: Path) -> None:
    nobody = home.server_account()
    path = place / "of-another"
    path.mkdir()
    os.chown(path, nobody.uid, nobody.gid)

    home.template_home(path).claim()

    assert (path / "var").stat().st_uid == nobody.uid
    assert (path / "var" / "test-template-0").stat().st_uid == 0


@as_root
def test_who_may_not_write_in_the_checkout_keeps_it_elsewhere(place: Path) -> None:
    path = place / "of-root"
    path.mkdir()
    nobody = home.server_account()
    os.seteuid(nobody.uid)
    try:
        kept = home.template_home(path)
        kept.claim()
    finally:
        os.seteuid(0)

    assert kept.path.parent == home.SHARED
    assert kept.path.owner() == nobody.name
