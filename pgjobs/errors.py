"""AppError, the base of every error of ours."""

import inspect
from typing import ClassVar

from django.core.exceptions import AppRegistryNotReady
from django.utils.translation import gettext


class AppError(Exception):
    """The request could not be carried out.

    A subclass' docstring is its message, in the language of whoever reads it; `{name}` in it is
    filled from the facts, which are also attributes. `code` is stable and part of the API; the HTTP
    status is decided in `pgjobs/api/http/problems.py` alone.
    """

    code: ClassVar[str] = "error"

    def __init__(self, **facts: object) -> None:
        super().__init__()
        self._facts = facts
        for name, value in facts.items():
            setattr(self, name, value)

    @property
    def message(self) -> str:
        return _translated(_first_paragraph(type(self))).format(**self._facts)

    def __str__(self) -> str:
        return self.message


def _first_paragraph(error: type[AppError]) -> str:
    paragraph = inspect.cleandoc(error.__doc__ or AppError.__doc__ or "").split("\n\n")[0]
    return " ".join(paragraph.split())


def _translated(text: str) -> str:
    try:
        return gettext(text)
    except AppRegistryNotReady:
        # A declaration may be refused while modules are still being imported.
        return text
