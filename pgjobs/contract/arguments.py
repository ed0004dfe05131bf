"""The arguments of a task: their names and types, checked and carried as JSON both ways."""

import inspect
import math
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from functools import cached_property
from typing import Any
from uuid import UUID

from django.utils.translation import gettext as _

from pgjobs.contract.json_values import JSON, JSONValueRefusedError, check_json
from pgjobs.errors import AppError

REDACTED = "***"

# Types that travel as text. A datetime is a date to Python, so exact types are compared.
_AS_TEXT: dict[type, tuple[Callable[[Any], str], Callable[[str], Any]]] = {
    UUID: (str, UUID),
    datetime: (datetime.isoformat, datetime.fromisoformat),
    date: (date.isoformat, date.fromisoformat),
    Decimal: (str, lambda text: _finite(Decimal(text))),
}
_PLAIN: tuple[type, ...] = (str, int, float, bool)
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_TYPES = (
    "declare str, int, float, bool, UUID, date, datetime, Decimal, list[...], dict[str, ...], "
    "one of these `| None`, or Any for plain JSON."
)
_NO_NAME = "cannot be given by name: declare each by its name, or one dict[str, Any] for all."
_UNIONS = (typing.Union, types.UnionType)


class ArgumentsRefusedError(AppError):
    """The arguments of {task_name} were refused: {summary}"""

    code = "invalid_arguments"
    task_name: str
    problems: dict[str, str]  # argument name -> what is wrong with it
    summary: str

    def __init__(self, *, task_name: str, problems: dict[str, str]) -> None:
        summary = " ".join(f"{name}: {why}" for name, why in problems.items())
        super().__init__(task_name=task_name, problems=problems, summary=summary)


class UnsupportedTypeError(AppError):
    """Argument {name} of {task_name} {reason}"""

    code = "unsupported_type"


@dataclass(frozen=True, slots=True)
class Argument:
    """One declared argument; `annotation` is its evaluated type."""

    name: str
    annotation: Any
    default: Any = inspect.Parameter.empty

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty


class Arguments:
    """The declared arguments of one task, in order."""

    def __init__(self, task_name: str, arguments: list[Argument]) -> None:
        self.task_name = task_name
        self._by_name = {argument.name: argument for argument in arguments}

    @classmethod
    def of(
        cls, function: Callable[..., Any], *, task_name: str, without: str | None = None
    ) -> "Arguments":
        """Return the arguments in the signature of `function`, leaving out the one named `without`.

        Raises:
            UnsupportedTypeError: an argument has no type, or one that JSON cannot carry.
        """
        parameters = inspect.signature(function, eval_str=True).parameters.values()
        for parameter in parameters:
            if parameter.kind not in _BY_NAME:
                raise UnsupportedTypeError(name=parameter, task_name=task_name, reason=_NO_NAME)
        arguments = [
            Argument(parameter.name, parameter.annotation, parameter.default)
            for parameter in parameters
            if parameter.name != without
        ]
        for argument in arguments:
            if not _supported(argument.annotation):
                reason = f"has {_type_of(argument)}: {_TYPES}"
                raise UnsupportedTypeError(name=argument.name, task_name=task_name, reason=reason)
        return cls(task_name, arguments)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Arguments) and self._by_name == other._by_name

    __hash__ = None  # type: ignore[assignment] # compared, never a key

    def __str__(self) -> str:
        return self._text

    @cached_property
    def _text(self) -> str:
        # Once: a door asks for each request which schema belongs to it.
        return ", ".join(
            f"{argument.name}: {inspect.formatannotation(argument.annotation)}" for argument in self
        )

    def __iter__(self) -> Iterator[Argument]:
        return iter(self._by_name.values())

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._by_name)

    @property
    def required_names(self) -> frozenset[str]:
        return frozenset(name for name, argument in self._by_name.items() if argument.required)

    def annotation_of(self, name: str) -> Any:
        """Return the evaluated type of an argument."""
        return self._by_name[name].annotation

    def dump(self, values: Mapping[str, Any], *, partial: bool = False) -> dict[str, JSON]:
        """Return `values` as JSON; what was left out stays out, and the function's default holds.

        `partial` lets required arguments be left out as well.

        Raises:
            ArgumentsRefusedError: names every argument that is unknown, missing, of another type,
                or not storable as JSON.
        """
        return self._convert(values, _to_json, partial=partial)

    def load(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Return stored JSON as the declared Python types.

        Raises:
            ArgumentsRefusedError: what is stored does not fit the declaration.
        """
        return self._convert(stored, _from_json)

    def _convert(
        self,
        values: Mapping[str, Any],
        convert: Callable[[Any, Any, str], Any],
        *,
        partial: bool = False,
    ) -> dict[str, Any]:
        problems = {name: _("Unknown argument.") for name in values if name not in self._by_name}
        converted: dict[str, Any] = {}
        for name, argument in self._by_name.items():
            try:
                if name in values:
                    converted[name] = convert(values[name], argument.annotation, "")
                elif argument.required and not partial:
                    problems[name] = _("Required.")
            except JSONValueRefusedError as error:
                problems[name] = f"{error.pointer} {error.reason}".strip()
        if problems:
            raise ArgumentsRefusedError(task_name=self.task_name, problems=problems)
        return converted


def _type_of(argument: Argument) -> str:
    if argument.annotation is inspect.Parameter.empty:
        return "no type"
    return f"type {inspect.formatannotation(argument.annotation)}"


def _finite(number: Decimal) -> Decimal:
    if not number.is_finite():
        raise ValueError("not a number")
    return number


def _supported(annotation: Any) -> bool:
    origin, parameters = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any:
        return True
    if origin in _UNIONS:
        # Of two types the text of one could be read as the other's; None is like neither.
        return types.NoneType in parameters and len(parameters) == 2 and _supported(parameters[0])
    if origin is list:
        return _supported(parameters[0])
    if origin is dict:
        return parameters[0] is str and _supported(parameters[1])
    return annotation in _PLAIN or annotation in _AS_TEXT


def _to_json(value: Any, annotation: Any, pointer: str) -> JSON:
    """Return `value` of Python type `annotation` as JSON; its type must be the declared one."""

    def scalar(item: Any, kind: type, where: str) -> Any:
        if kind in _AS_TEXT and type(item) is kind:
            return _AS_TEXT[kind][0](item)
        if kind in _AS_TEXT and isinstance(item, str):
            # The text form is accepted too, when it is one: what a client sent goes straight in.
            return _AS_TEXT[kind][0](_parse(item, kind, where))
        return _plain(item, kind, where)

    dumped: JSON = _walk(value, annotation, pointer, scalar)
    return dumped


def _from_json(value: Any, annotation: Any, pointer: str) -> Any:
    """Return the JSON `value` as Python type `annotation`."""

    def scalar(item: Any, kind: type, where: str) -> Any:
        if kind in _AS_TEXT:
            if not isinstance(item, str):
                raise _wrong_type(kind, where)
            return _parse(item, kind, where)
        return _plain(item, kind, where)

    return _walk(value, annotation, pointer, scalar)


def _walk(
    value: Any, annotation: Any, pointer: str, scalar: Callable[[Any, type, str], Any]
) -> Any:
    origin, parameters = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any:
        check_json(value, pointer=pointer)
        return value
    if origin in _UNIONS:
        return None if value is None else _walk(value, parameters[0], pointer, scalar)
    if origin is list and isinstance(value, list | tuple):
        return [_walk(v, parameters[0], f"{pointer}/{i}", scalar) for i, v in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        check_json(dict.fromkeys(value), pointer=pointer)
        return {k: _walk(v, parameters[1], f"{pointer}/{k}", scalar) for k, v in value.items()}
    if origin is not None:
        raise _wrong_type(annotation, pointer)
    return scalar(value, annotation, pointer)


def _plain(value: Any, kind: type, pointer: str) -> Any:
    if kind is float and type(value) in (int, float):
        # jsonb writes 1e16 out, so a large float comes back as an int: no loss, and no reason.
        if not math.isfinite(value):
            check_json(value, pointer=pointer)
        return float(value)
    if type(value) is not kind:  # by type: bool is an int to Python
        raise _wrong_type(kind, pointer)
    check_json(value, pointer=pointer)
    return value


def _parse(text: str, kind: type, pointer: str) -> Any:
    check_json(text, pointer=pointer)
    try:
        return _AS_TEXT[kind][1](text)
    except (ValueError, InvalidOperation):
        raise _wrong_type(kind, pointer) from None


def _wrong_type(kind: Any, pointer: str) -> JSONValueRefusedError:
    name = inspect.formatannotation(kind)
    return JSONValueRefusedError(
        pointer=pointer, reason=_("Must be of type {name}.").format(name=name)
    )
