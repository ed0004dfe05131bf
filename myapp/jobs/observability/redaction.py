"""Secrets, known by their values, and the texts from which they are kept."""

import functools
import json
import re
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import Any
from urllib.parse import quote, quote_plus

from django.conf import settings

from myapp.jobs.arguments import REDACTED

# A shorter value is hidden where it stands as a word: inside of others its gaps would tell it.
SHORT = 4
# Deployments' own secrets are hidden from this length on; shorter ones are ordinary words.
SHORTEST_OF_DEPLOYMENT = 8
# What Postgres quotes of a statement or a row, it cuts: half a secret is not found by its value.
_EXCERPT = r"(?m:^(?:LINE \d+|DETAIL|CONTEXT): .*)"
_OTHER_SETTINGS = ("SECRET_KEY", "DJANGO_SUPERUSER_PASSWORD")


class Secrets:
    """Values to hide: those of sensitive arguments, each with all that is nested in it.

    Texts and numbers are found as they are, and as Python, JSON, SQL and URLs quote them; what the
    server quotes of a statement or a row goes as a whole. Not hidden:
    true, false, null, the keys of objects, and what a function makes of a value, such as its half.
    """

    def __init__(self, values: Iterable[Any] = (), *, excerpts: bool = True) -> None:
        texts = {text for value in values for text in _leaves(value)}
        forms = {form for text in texts for form in _forms(text)}
        self._pattern = _pattern_of(forms, excerpts=excerpts) if forms else None

    def __bool__(self) -> bool:
        return self._pattern is not None

    def hide(self, text: str) -> str:
        """Return `text` with `***` in the place of each secret."""
        return self._pattern.sub(REDACTED, text) if self._pattern else text

    def hide_in(self, value: Any) -> Any:
        """Return JSON, or what a log line is made of, with `***` in the place of each secret."""
        if isinstance(value, str):
            return self.hide(value)
        if isinstance(value, dict):
            return {self.hide_in(key): self.hide_in(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.hide_in(item) for item in value]
        if type(value) in (int, float):
            return value if self.hide(str(value)) == str(value) else REDACTED
        return value


NO_SECRETS = Secrets()
_current: ContextVar[Secrets] = ContextVar("secrets", default=NO_SECRETS)


def keep_from_logs(secrets: Secrets) -> None:
    """Keep these from the log lines of the current contextvars context, from now on."""
    _current.set(secrets)


def hide_known_in(value: Any) -> Any:
    """Return the parts of a log line without the secrets of the deployment and of what runs now."""
    return _current.get().hide_in(of_deployment().hide_in(value))


@functools.cache
def of_deployment() -> Secrets:
    """Return the passwords and keys that the settings hold."""
    texts = [text for text in _configured() if len(text) >= SHORTEST_OF_DEPLOYMENT]
    return Secrets(texts, excerpts=False)  # which are of use, and hold none of these


def _configured() -> Iterator[str]:
    for database in settings.DATABASES.values():
        password = database.get("PASSWORD") or ""
        # The name again hides nothing, and would be missing everywhere.
        if password not in (database.get("USER"), database.get("NAME")):
            yield password
    for mailer in settings.MAILERS.values():
        yield mailer.get("OPTIONS", {}).get("password") or ""
    yield from (getattr(settings, name, "") or "" for name in _OTHER_SETTINGS)


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)
    elif value is not None and not isinstance(value, bool) and str(value):
        yield str(value)


def _forms(text: str) -> set[str]:
    """Return the ways in which a text may be quoted."""
    plain = json.dumps(text, ensure_ascii=False)[1:-1]
    return {
        text,
        repr(text)[1:-1],
        plain,
        json.dumps(text)[1:-1],
        quote(text),
        quote(text, safe=""),
        quote_plus(text),
        text.replace("'", "''"),
        text.replace("\\", "\\\\").replace("'", "''"),
    }


def _pattern_of(forms: set[str], *, excerpts: bool) -> re.Pattern[str]:
    longest_first = sorted(forms, key=len, reverse=True)
    patterns = [*([_EXCERPT] if excerpts else []), *map(_as_pattern, longest_first)]
    return re.compile("|".join(patterns))


def _as_pattern(form: str) -> str:
    pattern = re.escape(form)
    return pattern if len(form) >= SHORT else rf"(?<!\w){pattern}(?!\w)"
