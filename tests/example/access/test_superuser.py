"""The superuser of the environment, created once by `manage.py migrate`."""

from typing import Any

import pytest
from django.contrib.auth import get_user_model

from myapp.access import superuser
from myapp.access.superuser import create_configured_superuser

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _configured(settings: Any) -> None:
    settings.DJANGO_SUPERUSER_USERNAME = "boss"
    settings.DJANGO_SUPERUSER_EMAIL = "boss@example.org"
    settings.DJANGO_SUPERUSER_PASSWORD = "pw-of-boss"


@pytest.fixture
def _no_test_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(superuser, "_is_test_database", lambda _using: False)


@pytest.mark.usefixtures("_no_test_database")
def test_it_is_created_once_and_never_changed() -> None:
    create_configured_superuser(using="default")
    boss = get_user_model().objects.get(username="boss")
    assert (boss.is_superuser, boss.check_password("pw-of-boss")) == (True, True)

    boss.set_password("changed since")
    boss.save()
    create_configured_superuser(using="default")

    assert get_user_model().objects.get().check_password("changed since")


@pytest.mark.usefixtures("_no_test_database")
def test_one_that_was_renamed_is_not_created_again() -> None:
    create_configured_superuser(using="default")
    get_user_model().objects.update(username="chief")

    create_configured_superuser(using="default")

    assert get_user_model().objects.get().username == "chief"


@pytest.mark.usefixtures("_no_test_database")
def test_none_is_created_without_a_name(settings: Any) -> None:
    settings.DJANGO_SUPERUSER_USERNAME = ""

    create_configured_superuser(using="default")

    assert not get_user_model().objects.exists()


def test_test_databases_get_none() -> None:
    create_configured_superuser(using="default")

    assert not get_user_model().objects.exists()
