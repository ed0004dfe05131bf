"""AppError, the base of every error of ours."""

import inspect
from typing import ClassVar


class AppError(Exception):
    """The request could not be carried out.

    A subclass' docstring is its message; `{name}` in it is filled from the facts, which are also
    attributes. `code` is stable and part of the API; the HTTP status is decided in
    `myapp/jobs/rest/problems.py` alone.
    """

    code: ClassVar[str] = "error"

    def __init__(self, **facts: object) -> None:
        for name, value in facts.items():
            setattr(self, name, value)
        self.message = _first_paragraph(type(self)).format(**facts)
        super().__init__(self.message)


def _first_paragraph(error: type[AppError]) -> str:
    paragraph = inspect.cleandoc(error.__doc__ or AppError.__doc__ or "").split("\n\n")[0]
    return " ".join(paragraph.split())
