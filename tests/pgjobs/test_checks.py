"""The system checks: menu and worker, the names of settings, a lease that can be kept."""

import re
from collections.abc import Callable
from typing import Any

import job_samples
import pytest
from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.postgres.fields import ArrayField
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import models
from programs import PROJECT

from pgjobs.checks import check_lease, check_menu, check_names, check_owner_key, check_values
from pgjobs.conf import conf
from pgjobs.defer.bridge import TaskSpec, declare
from pgjobs.worker.app import JobsApp
from pgjobs.worker.errors import ImplementationMismatchError


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
    place = r"tests/pgjobs/test_checks\.py:\d+"
    assert re.match(f"{place}: Task walk is declared but no function implements it.", error.msg)


def test_a_function_without_a_declaration_is_an_error(worker_app: Callable[..., JobsApp]) -> None:
    app = worker_app()

    @app.implements(walk)
    def walk_on(*, steps: int) -> None: ...

    (error,) = check_menu()
    assert "Task walk is implemented but not on the menu." in error.msg


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("nowhere.app", "No module named 'nowhere'"),
        ("app", "app doesn't look like a module path"),
        ("job_samples.nothing", 'does not define a "nothing" attribute'),
        ("job_samples.JobsApp", "it is a type"),
        ("procrastinate.App", "it is a type"),
    ],
)
def test_what_is_no_worker_s_app_is_an_error_that_says_why(
    settings: Any, path: str, reason: str
) -> None:
    settings.JOBS_WORKER_APP = path

    (error,) = check_menu()
    assert error.id == "jobs.E009"
    assert repr(path) in error.msg
    assert reason in error.msg


def test_a_function_with_other_arguments_is_refused(worker_app: Callable[..., JobsApp]) -> None:
    app = worker_app(walk)

    with pytest.raises(ImplementationMismatchError, match=r"\(steps: int\).*\(steps: float\)"):

        @app.implements(walk)
        def walk_on(*, steps: float) -> None: ...


def test_the_settings_of_the_project_are_all_known() -> None:
    assert list(check_names()) == []


def test_an_app_of_the_project_says_which_settings_are_its_own(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.JOBS_OF_OURS = 1
    assert [error.msg for error in check_names()] == ["There is no setting JOBS_OF_OURS."]

    monkeypatch.setattr(apps.get_app_config("access"), "jobs_settings", {"JOBS_OF_OURS"})
    assert "JOBS_OF_OURS" not in str(list(check_names()))


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("JOBS_WORKER_THREADS", "10", "a whole number from 1 to 1000"),
        ("JOBS_WORKER_THREADS", 0, "a whole number from 1 to 1000"),
        ("JOBS_WORKER_THREADS", True, "a whole number from 1 to 1000"),
        ("JOBS_WORKER_THREADS", 2.0, "a whole number from 1 to 1000"),
        ("JOBS_TRUSTED_PROXIES", "all", "a whole number from 0 to 10"),
        ("JOBS_WORKER_POLL_SECONDS", None, "a number from 0.1 to 3600"),
        ("JOBS_EAGER", "no", "True or False"),
        ("JOBS_RESET_CONNECTIONS", "often", "'when_changed' or 'always'"),
        ("JOBS_WORKER_APP", None, "a text"),
    ],
)
def test_a_value_that_does_not_fit_is_an_error_that_says_what_would(
    settings: Any, name: str, value: Any, expected: str
) -> None:
    setattr(settings, name, value)

    (error,) = check_values()
    assert (error.id, error.msg) == ("jobs.E004", f"{name} is {value!r}; expected {expected}.")


def test_values_that_fit_are_no_error(settings: Any) -> None:
    settings.JOBS_WORKER_POLL_SECONDS = 3
    settings.JOBS_TRUSTED_PROXIES = None

    assert list(check_values()) == []


def test_a_project_sets_only_what_differs(settings: Any) -> None:
    settings.JOBS_WORKER_THREADS = 3
    del settings.JOBS_WORKER_POLL_SECONDS

    assert (conf.JOBS_WORKER_THREADS, conf.JOBS_WORKER_POLL_SECONDS) == (3, 2.0)


def test_the_library_reads_its_settings_by_conf_alone() -> None:
    pattern = re.compile(r"(?<!\w)settings\.JOBS_|settings, .JOBS_")
    files = [path for path in (PROJECT / "pgjobs").rglob("*.py") if path.name != "conf.py"]

    assert len(files) > 100
    assert [str(path) for path in files if pattern.search(path.read_text())] == []


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("JOBS_WORKER_THREAD", "Did you mean JOBS_WORKER_THREADS?"),
        ("PROCRASTINATE_IMPORT_PATH", "Did you mean PROCRASTINATE_IMPORT_PATHS?"),
        ("JOBS_ZZZ", "The README lists all of them."),
    ],
)
def test_an_unknown_setting_is_an_error_with_a_suggestion(
    settings: Any, name: str, hint: str
) -> None:
    setattr(settings, name, 1)

    (error,) = check_names()
    assert (error.id, error.msg, error.hint) == ("jobs.E002", f"There is no setting {name}.", hint)


def test_an_unknown_variable_of_the_environment_is_an_error_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JOBS_WORKER_THREAD", "3")

    (error,) = check_names()
    assert "JOBS_WORKER_THREAD" in error.msg


@pytest.mark.parametrize(
    ("heartbeat", "lease"),
    [(5.0, 9.9), (5.0, 0.3), (300.0, 15.0)],
    ids=["below two heartbeats", "below one", "a longer heartbeat alone"],
)
def test_a_lease_that_no_worker_can_keep_is_an_error(
    settings: Any, heartbeat: float, lease: float
) -> None:
    settings.JOBS_WORKER_HEARTBEAT_SECONDS, settings.JOBS_WORKER_LEASE_SECONDS = heartbeat, lease

    (error,) = check_lease()
    assert error.id == "jobs.E003"
    assert f"JOBS_WORKER_LEASE_SECONDS ({lease:g})" in error.msg
    assert error.hint == f"Make the lease {3 * heartbeat:g} or more, three heartbeats."


@pytest.mark.parametrize(("heartbeat", "lease"), [(5.0, 15.0), (5.0, 10.0), (0.3, 0.6)])
def test_a_lease_of_two_heartbeats_is_none(settings: Any, heartbeat: float, lease: float) -> None:
    settings.JOBS_WORKER_HEARTBEAT_SECONDS, settings.JOBS_WORKER_LEASE_SECONDS = heartbeat, lease

    assert list(check_lease()) == []


def test_manage_check_refuses_such_a_lease(settings: Any) -> None:
    settings.JOBS_WORKER_LEASE_SECONDS = 1.0

    with pytest.raises(SystemCheckError, match=r"jobs\.E003"):
        call_command("check")


KEYS = [
    models.BinaryField(primary_key=True),
    models.JSONField(primary_key=True),
    models.GenericIPAddressField(primary_key=True),
    ArrayField(models.IntegerField(), primary_key=True),
    models.CompositePrimaryKey("tenant", "number"),
]


@pytest.mark.parametrize("key", KEYS, ids=lambda key: type(key).__name__)
def test_a_key_that_names_no_owner_is_an_error_with_its_cure(
    key: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = get_user_model()
    key.set_attributes_from_name("key")
    monkeypatch.setattr(users._meta, "pk", key)

    (error,) = check_owner_key()

    assert error.msg.startswith("The key key of User (")
    assert "models.BigAutoField(primary_key=True)" in error.hint


def test_the_key_of_the_projects_users_names_owners() -> None:
    assert list(check_owner_key()) == []
