"""The system check that holds menu and worker together."""

from collections.abc import Callable
from typing import Any

import job_samples
import pytest

from myapp.jobs.bridge import TaskSpec, declare
from myapp.jobs.checks import check_menu
from tasks.engine.app import JobsApp
from tasks.engine.errors import ImplementationMismatchError


@pytest.fixture
def worker_app(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., JobsApp]:
    """Puts an app of these specs in the place of the worker's."""

    def place(*specs: TaskSpec[...]) -> JobsApp:
        app = JobsApp(specs={spec.name: spec for spec in specs}, import_paths=[])
        monkeypatch.setattr(job_samples, "other_app", app, raising=False)
        settings.JOBS_WORKER_APP = "job_samples.other_app"
        return app

    return place


@declare(queue="q")
def walk(steps: int) -> None: ...


def test_the_real_menu_and_the_real_functions_agree() -> None:
    assert list(check_menu()) == []


def test_a_declaration_without_a_function_is_an_error(worker_app: Callable[..., JobsApp]) -> None:
    worker_app(walk)

    (error,) = check_menu()
    assert "Task walk is declared but no function implements it." in error.msg


def test_a_function_without_a_declaration_is_an_error(worker_app: Callable[..., JobsApp]) -> None:
    app = worker_app()

    @app.implements(walk)
    def walk_on(*, steps: int) -> None: ...

    (error,) = check_menu()
    assert "Task walk is implemented but not on the menu." in error.msg


def test_a_function_with_other_arguments_is_refused(worker_app: Callable[..., JobsApp]) -> None:
    app = worker_app(walk)

    with pytest.raises(ImplementationMismatchError, match=r"\(steps: int\).*\(steps: float\)"):

        @app.implements(walk)
        def walk_on(*, steps: float) -> None: ...
