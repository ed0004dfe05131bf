"""The import contracts hold, and a forbidden import planted anywhere is found."""

from pathlib import Path

import pytest
from import_lint import assert_breaks, copy, lint

__all__ = ["copy"]


def test_the_contracts_hold(copy: Path) -> None:
    ended = lint(copy)

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
        ("myapp/access/superuser.py", "import myproj.env", "myapp does not know the project"),
        ("pgjobs/api/door/door.py", "import myapp.tasks", "The library knows no project"),
        ("myapp/tasks.py", "import myapp.access.superuser", "The menu imports the bridge only"),
        ("myapp/tasks.py", "import pgjobs.tracking.models", "The menu imports the bridge only"),
        ("myapp/tasks.py", "import rest_framework", "The menu imports the bridge only"),
        ("pgjobs/defer/bridge.py", "import pgjobs.tracking.models", "The bridge is light"),
        ("pgjobs/contract/retries.py", "import rest_framework", "The bridge is light"),
        ("pgjobs/tracking/selectors.py", "import pgjobs.api.tasks.apis", "Inside a room"),
        ("pgjobs/tracking/models.py", "import pgjobs.tracking.selectors", "Inside a room"),
        ("myapp/pages/selectors.py", "import myapp.pages.views", "Inside a room"),
        ("pgjobs/tracking/models.py", "import myapp.pages.views", "The library knows no project"),
        ("pgjobs/tracking/models.py", "import pgjobs.follow.hub", "Rooms of the library"),
        ("pgjobs/worker/run/run.py", "import pgjobs.worker.app", "Rooms of the worker"),
        ("pgjobs/api/tasks/apis.py", "import pgjobs.api.live.apis", "Rooms of the API"),
        ("pgjobs/worker/run/run.py", "import myapp.tasks", "The engine does not know the menu"),
    ],
)
def test_a_planted_import_breaks_its_contract(
    copy: Path, file: str, planted: str, contract: str
) -> None:
    assert_breaks(copy, file, planted, contract)
