"""The settings that tests run on are the project's, and name one app more."""

from types import ModuleType

import pytest
from sample import settings as of_tests
from sample import site_urls as routes_of_tests

from myproj import settings as of_project
from myproj import urls as routes_of_project

OWN = {"INSTALLED_APPS", "JOBS_DEV_DEMO", "JOBS_THROTTLE_SUBSCRIPTIONS_PER_HOUR", "ROOT_URLCONF"}
HANDLERS = ("handler400", "handler403", "handler404", "handler500")


def test_the_tests_add_an_app_and_its_routes() -> None:
    ours, theirs = _named(of_tests), _named(of_project)

    assert {name for name in ours | theirs if ours.get(name) != theirs.get(name)} == OWN
    assert [*of_project.INSTALLED_APPS, "sample"] == of_tests.INSTALLED_APPS


@pytest.mark.parametrize("name", HANDLERS)
def test_errors_of_the_site_are_the_project_s(name: str) -> None:
    assert getattr(routes_of_tests, name) == getattr(routes_of_project, name)


def _named(module: ModuleType) -> dict[str, object]:
    return {name: value for name, value in vars(module).items() if name.isupper()}
