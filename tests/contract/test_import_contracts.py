"""The import contracts hold, and a forbidden import planted anywhere is found."""

import shutil
import subprocess
from pathlib import Path

import pytest
from programs import PROJECT, SCRIPTS


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages, to plant imports in."""
    root = tmp_path_factory.mktemp("copy")
    for name in ("pgjobs", "myproj", "myapp", "tasks"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PROJECT / name, root / name, ignore=ignored)
    shutil.copy(PROJECT / "pyproject.toml", root)
    return root


def _lint(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603
        [f"{SCRIPTS}/lint-imports", "--no-cache"],
        cwd=root,
        env={"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_contracts_hold(copy: Path) -> None:
    ended = _lint(copy)

    assert ended.returncode == 0, ended.stdout


@pytest.mark.parametrize(
    ("file", "planted", "contract"),
    [
        (
            "pgjobs/api/door/door.py",
            "import pgjobs.worker.run.run",
            "The worker is imported by nobody",
        ),
        (
            "myproj/urls.py",
            "def f():\n    from tasks import app",
            "The worker is imported by nobody",
        ),
        ("pgjobs/tracking/models.py", "import myproj.env", "The library knows no project"),
        ("myapp/users/models.py", "import myproj.env", "myapp does not know the project"),
        ("pgjobs/api/door/door.py", "import myapp.tasks", "The library knows no project"),
        ("myapp/tasks.py", "import myapp.users.models", "The domain knows the menu"),
        ("myapp/tasks.py", "import pgjobs.tracking.models", "The menu imports the bridge only"),
        ("myapp/tasks.py", "import rest_framework", "The menu imports the bridge only"),
        ("pgjobs/defer/bridge.py", "import pgjobs.tracking.models", "The bridge is light"),
        ("pgjobs/contract/retries.py", "import rest_framework", "The bridge is light"),
        ("pgjobs/tracking/selectors.py", "import pgjobs.api.tasks.apis", "Inside a room"),
        ("pgjobs/tracking/models.py", "import pgjobs.tracking.selectors", "Inside a room"),
        ("pgjobs/tracking/models.py", "import myapp.pages.views", "The library knows no project"),
        ("pgjobs/tracking/models.py", "import pgjobs.follow.hub", "Rooms of the library"),
        ("pgjobs/worker/run/run.py", "import pgjobs.worker.app", "Rooms of the worker"),
        ("pgjobs/api/tasks/apis.py", "import pgjobs.api.live.apis", "Rooms of the API"),
        ("pgjobs/worker/run/run.py", "import myapp.tasks", "The engine does not know the menu"),
        (
            "myapp/pages/views.py",
            "from myapp.users import services",
            "The writes of users are its own",
        ),
    ],
)
def test_a_planted_import_breaks_its_contract(
    copy: Path, file: str, planted: str, contract: str
) -> None:
    path = copy / file
    original = path.read_text()
    path.write_text(f"{original}\n{planted}\n")
    try:
        ended = _lint(copy)
    finally:
        path.write_text(original)

    assert ended.returncode != 0
    broken = [line for line in ended.stdout.splitlines() if " BROKEN" in line]
    assert any(line.startswith(contract) for line in broken), ended.stdout
