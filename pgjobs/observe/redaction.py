"""Secrets, known by their values, and the texts from which they are kept."""

import functools
import json
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any
from urllib.parse import quote, quote_plus

from django.conf import settings

from pgjobs.contract.arguments import REDACTED

# A shorter value is hidden where it stands as a word: inside of others its gaps would tell it.
SHORT = 4
# Deployments' own secrets are hidden from this length on; shorter ones are ordinary words.
SHORTEST_OF_DEPLOYMENT = 8
# What Postgres quotes of a statement or a row, it cuts: half a secret is not found by its value.
_EXCERPT = r"(?m:^(?:LINE \d+|DETAIL|CONTEXT): .*)"
_SETTINGS = (
    "SECRET_KEY", "SECRET_KEY_FALLBACKS", "EMAIL_HOST_PASSWORD", "DJANGO_SUPERUSER_PASSWORD",
)  # fmt: skip
# Settings nest no deeper; one that holds itself would go on for ever.
_MAX_SETTING_DEPTH = 4


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
        self.hides_excerpts = excerpts and bool(forms)
        # How many characters of a text one secret takes at most.
        self.longest = max(map(len, forms), default=0)

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


def hide_in_ends(text: str, *secrets: Secrets, max_length: int) -> str:
    """Return `text` without `secrets`; of a long one the ends, at least `max_length` / 2 of each.

    The work is bounded by `max_length`, not by the text: a search holds every other thread up.
    What a cut goes through, a secret or what the server quotes, is left out as a whole.
    """
    margin = max((each.longest for each in secrets), default=0)
    if len(text) <= 2 * (max_length + margin):
        return _hide_all(text, secrets)
    head, tail = text[: max_length + margin], text[-(max_length + margin) :]
    if any(each.hides_excerpts for each in secrets):
        tail = tail.partition("\n")[2]  # only from its beginning is a line known for an excerpt
    head, tail = _hide_all(head, secrets), _hide_all(tail, secrets)
    return f"{head[: len(head) - margin]} [...] {tail[margin:]}"


@functools.cache
def of_deployment() -> Secrets:
    """Return the passwords and keys that the settings hold, in any shape; never raises."""
    texts = [text for text in _configured() if len(text) >= SHORTEST_OF_DEPLOYMENT]
    return Secrets(texts, excerpts=False)  # which are of use, and hold none of these


def _hide_all(text: str, secrets: Iterable[Secrets]) -> str:
    for each in secrets:
        text = each.hide(text)
    return text


def _configured() -> set[str]:
    texts = _texts_of([_setting(name) for name in _SETTINGS])
    for database in _members(_setting("DATABASES")):
        # The name again hides nothing, and would be missing everywhere.
        names = _texts_of([_item(database, "USER"), _item(database, "NAME")])
        texts |= _texts_of([_item(database, "PASSWORD"), *_passwords_in(database)]) - names
    for mailer in _members(_setting("MAILERS")):
        texts |= _texts_of(_passwords_in(mailer))
    return texts


def _setting(name: str) -> Any:
    try:
        with warnings.catch_warnings(action="ignore"):  # some are deprecated, and set all the same
            return getattr(settings, name)
    except Exception:  # noqa: BLE001 # not set, or Django refuses what it is
        return None


def _members(mapping: Any) -> list[Any]:
    try:
        return list(mapping.values())
    except Exception:  # noqa: BLE001 # no mapping, or an odd one
        return []


def _item(mapping: Any, key: str) -> Any:
    try:
        return mapping[key]
    except Exception:  # noqa: BLE001 # likewise, or it has no such key
        return None


def _passwords_in(mapping: Any) -> list[Any]:
    """Return the passwords among the OPTIONS of a database or a mailer."""
    try:
        options = dict(_item(mapping, "OPTIONS") or {})
    except Exception:  # noqa: BLE001 # likewise
        return []
    return [value for key, value in options.items() if isinstance(key, str) and "password" in key]


def _texts_of(value: Any, depth: int = 0) -> set[str]:
    """Return the texts by which a setting is found; none for one that cannot be read."""
    try:
        members, texts = _parts_of(value)
    except Exception:  # noqa: BLE001 # its own __str__ may do anything; the others are hidden
        return set()
    if depth < _MAX_SETTING_DEPTH:
        for member in members:
            texts |= _texts_of(member, depth + 1)
    return texts


def _parts_of(value: Any) -> tuple[list[Any], set[str]]:
    """Return the members of a setting, and the texts of one that has none."""
    if value is None or isinstance(value, bool):
        return [], set()
    if isinstance(value, str):
        return [], {str.__str__(value)}
    if isinstance(value, bytes | bytearray | memoryview):
        as_bytes = bytes(value)
        return [], {as_bytes.decode(errors="replace"), repr(as_bytes)[2:-1]}
    if isinstance(value, Mapping):
        return list(value.values()), set()
    if isinstance(value, list | tuple | set | frozenset):
        return list(value), set()
    # Of a wrapper that shows stars (pydantic's SecretStr) what it wraps as well.
    wrapped = getattr(value, "get_secret_value", None)
    return [wrapped()] if callable(wrapped) else [], {str(value)}


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
        quote(text, errors="replace"),
        quote(text, safe="", errors="replace"),
        quote_plus(text, errors="replace"),
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
