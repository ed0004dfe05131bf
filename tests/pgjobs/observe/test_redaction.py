"""Secrets of the deployment are hidden in any shape, and texts of any length are cut safely."""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.utils.functional import lazy

from pgjobs.observe.redaction import Secrets, hide_in_ends, of_deployment

CANARY = "c4n4ry-of-a-secret"


class Wrapped:
    """A secret that shows stars, as pydantic's SecretStr does."""

    def get_secret_value(self) -> str:
        return CANARY

    def __str__(self) -> str:
        return "**********"


class Unreadable:
    """A value that cannot be read at all."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class OddMapping(dict[str, Any]):
    """A mapping that gives nothing."""

    def __getitem__(self, key: str) -> Any:
        raise RuntimeError(key)

    def values(self) -> Any:
        raise RuntimeError("no values")

    keys = items = values


@pytest.fixture(autouse=True)
def _read_settings_again() -> Iterator[None]:
    of_deployment.cache_clear()
    yield
    of_deployment.cache_clear()


def _database(**changes: Any) -> dict[str, Any]:
    return {"default": {"USER": "u", "NAME": "n", "PASSWORD": "", **changes}}


def _loop() -> list[Any]:
    loop: list[Any] = [CANARY]
    loop += [loop, loop]
    return loop


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("SECRET_KEY", CANARY, CANARY),
        ("SECRET_KEY", CANARY.encode(), CANARY),
        ("SECRET_KEY", b"\xff" + CANARY.encode(), repr(b"\xff" + CANARY.encode())),
        ("SECRET_KEY", bytearray(CANARY.encode()), CANARY),
        ("SECRET_KEY", lazy(lambda: CANARY, str)(), CANARY),
        ("SECRET_KEY", Path("/run") / CANARY, f"/run/{CANARY}"),
        ("SECRET_KEY", Wrapped(), CANARY),
        ("SECRET_KEY", CANARY + "\ud800", CANARY + "\ud800"),
        ("SECRET_KEY_FALLBACKS", ["an old key", CANARY], CANARY),
        ("SECRET_KEY_FALLBACKS", [Unreadable(), CANARY], CANARY),
        ("SECRET_KEY_FALLBACKS", _loop(), CANARY),
        ("DATABASES", _database(PASSWORD=CANARY), CANARY),
        ("DATABASES", _database(PASSWORD=8765432109), "8765432109"),
        ("DATABASES", _database(PASSWORD={"of": CANARY}), CANARY),
        ("DATABASES", _database(PASSWORD=None, OPTIONS={"password": CANARY}), CANARY),
        ("DATABASES", _database(OPTIONS={"sslpassword": CANARY, 1: Unreadable()}), CANARY),
        ("DATABASES", {"odd": OddMapping(), **_database(PASSWORD=CANARY)}, CANARY),
        ("DATABASES", {"none": None, **_database(PASSWORD=CANARY)}, CANARY),
        ("MAILERS", {"none": None, "default": {"OPTIONS": {"password": CANARY}}}, CANARY),
    ],
)  # fmt: skip
def test_a_secret_of_the_settings_is_hidden_in_any_shape(
    monkeypatch: pytest.MonkeyPatch, name: str, value: Any, said: str
) -> None:
    monkeypatch.setattr(settings, name, value, raising=False)

    hidden = of_deployment().hide(f"it is {said!s}.")

    assert CANARY not in hidden
    assert said not in hidden


@pytest.mark.parametrize("name", ["MAILERS", "DATABASES", "SECRET_KEY_FALLBACKS", "SECRET_KEY"])
@pytest.mark.parametrize(
    "value",
    ["missing", None, "text", 7, [1], OddMapping(a=1), {"a": None}, {"a": {"OPTIONS": 7}},
     Unreadable()],
)  # fmt: skip
def test_one_odd_setting_leaves_the_others_hidden(
    monkeypatch: pytest.MonkeyPatch, name: str, value: Any
) -> None:
    monkeypatch.setattr(settings, "DJANGO_SUPERUSER_PASSWORD", CANARY)
    if value == "missing":
        monkeypatch.delattr(settings, name)
    else:
        monkeypatch.setattr(settings, name, value, raising=False)

    assert of_deployment().hide(f"it is {CANARY}") == "it is ***"


@pytest.mark.filterwarnings("ignore:The EMAIL_HOST_PASSWORD setting is deprecated")
def test_the_password_of_the_mail_server_is_hidden_where_it_is_a_setting_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(settings, "MAILERS")
    monkeypatch.setattr(settings, "EMAIL_HOST_PASSWORD", CANARY)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert of_deployment().hide(f"it is {CANARY}") == "it is ***"


def test_the_name_of_a_database_or_its_user_is_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    databases = _database(USER="an-ordinary-name", PASSWORD="an-ordinary-name")
    monkeypatch.setattr(settings, "DATABASES", databases)

    assert of_deployment().hide("an-ordinary-name") == "an-ordinary-name"


@pytest.mark.parametrize("at", range(80, 140))
def test_no_cut_leaves_a_part_of_a_secret(at: int) -> None:
    """At whichever place of a long text a secret stands, from either end."""
    for text in ("." * at + CANARY + "." * 9000, "." * 9000 + CANARY + "." * at):
        shown = hide_in_ends(text, Secrets([CANARY]), Secrets(["other"]), max_length=100)

        assert not set(CANARY) & set(shown.replace("[...]", "")) - {".", "*", " "}


def test_no_cut_leaves_a_part_of_what_the_server_quotes() -> None:
    text = "x\n" * 500 + "DETAIL: " + "of a row " * 100 + "\n" + "the end" * 9

    shown = hide_in_ends(text, Secrets(["secret"]), max_length=100)

    assert "of a row" not in shown
    assert "the end" in shown


def test_a_text_that_is_not_long_is_shown_whole() -> None:
    text = json.dumps(["x" * 100, CANARY, "y" * 50])

    assert hide_in_ends(text, Secrets([CANARY]), max_length=100) == text.replace(CANARY, "***")
