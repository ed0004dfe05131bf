"""`manage.py jobs dev` in a fresh project, as a person at a terminal meets it."""

from pathlib import Path

import psycopg
import pytest
from dev_sessions import removed_afterwards
from fresh_projects import DEFER, DEV, SETTINGS, TASKS, Project
from programs import eventually

from pgjobs.dev.home import checkout_home

pytestmark = [pytest.mark.long, pytest.mark.worker]

VIEW = """
from django.http import HttpResponse


def look(request):
    answer = 42
    breakpoint()
    return HttpResponse(f"the answer is {answer}")


urlpatterns += [path("look/", look)]
"""


def test_a_session_brings_postgres_restarts_after_edits_and_stops_at_breakpoints(
    project: Project,
) -> None:
    project.add("shop/settings.py", SETTINGS)
    with removed_afterwards(project.root), project.on_a_terminal("manage.py", "jobs", "dev") as dev:
        # The database is still that of `startproject`.
        dev.shows("The database 'default' is sqlite")
        dev.shows("The next edit tries again.")
        project.add("orders/tasks.py", TASKS)
        project.add("shop/settings.py", 'INSTALLED_APPS += ["orders"]\n' + DEV)
        dev.shows("Ctrl-C stops everything.")
        project.run("manage.py", "shell", "-v0", "-c", DEFER)
        assert eventually(lambda: _last_end(project.root)) == "5"

        project.add("shop/urls.py", VIEW)
        stops = TASKS.replace("    return", "    breakpoint()\n    return").replace("right}", "30}")
        (project.root / "orders" / "tasks.py").write_text(stops)
        dev.shows("Restarting web and worker.")
        dev.shows("Starting WSGI development server")
        with dev.asking("/look/") as answer:
            dev.shows("(Pdb)")
            dev.types("p answer + 1")
            dev.shows("43")
            dev.types("c")
        assert answer == ["the answer is 42"]
        project.run("manage.py", "shell", "-v0", "-c", DEFER)
        dev.shows("(Pdb)")
        dev.types("p left")
        dev.shows("2")
        dev.types("c")
        assert eventually(lambda: _last_end(project.root, after=1)) == "32"
        assert "\033[36mweb" in dev.text


def _last_end(root: Path, *, after: int = 0) -> str | None:
    """Return the sum of the last task of ours that has ended, once more than `after` have."""
    query = "SELECT result ->> 'sum' FROM pgjobs_task WHERE end_status = 'DONE' ORDER BY id"
    with psycopg.connect(checkout_home(root).url()) as server:
        sums: list[str] = [row[0] for row in server.execute(query)]
    return sums[-1] if len(sums) > after else None
