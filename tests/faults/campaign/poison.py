"""Results and errors that are hard to store: what a task function may come to, by a name."""

from collections.abc import Callable
from typing import Any


class SpeechlessError(Exception):
    """Cannot say what happened."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def result_of(kind: str) -> Any:
    """Return this result, or raise this error."""
    return POISONS[kind]()


def _raise(error: Callable[[], BaseException]) -> Callable[[], Any]:
    def fail() -> Any:
        raise error()

    return fail


def _deep(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return {"value": value}


def _itself() -> Any:
    value: dict[str, Any] = {}
    value["value"] = value
    return value


def _recursion() -> Any:
    return _recursion()


def _chain() -> Any:
    error: BaseException = ValueError("the first")
    for number in range(500):
        following = ValueError(f"{number}: " + "y" * 1000)
        following.__cause__ = error
        error = following
    raise error


POISONS: dict[str, Callable[[], Any]] = {
    "nul": lambda: {"value": "\x00"},
    "nul_in_key": lambda: {"\x00": 1},
    "high_surrogate": lambda: {"value": "\ud800"},
    "low_surrogate": lambda: {"value": "\udc00 \udfff"},
    "surrogate_in_key": lambda: {"\ud800": 1},
    "nan": lambda: {"value": float("nan")},
    "infinity": lambda: {"value": [1.0, float("-inf")]},
    "50_megabytes": lambda: {"value": "x" * 50_000_000},
    "many_keys": lambda: {str(number): number for number in range(200_000)},
    "huge_integer": lambda: {"value": 10**5000},
    "beyond_bigint": lambda: {"value": 2**64},
    "tiny_float": lambda: {"value": 5e-324},
    "deep": lambda: _deep(100_000),
    "itself": _itself,
    "a_set": lambda: {"value": {1, 2}},
    "an_object": lambda: {"value": object()},
    "bytes": lambda: {"value": b"\xff"},
    "a_generator": lambda: {"value": (number for number in range(3))},
    "a_list": lambda: [1, 2],
    "a_text": lambda: "text",
    "integer_keys": lambda: {1: 1, "1": 2},
    "lone_message": _raise(lambda: ValueError("\ud800")),
    "nul_message": _raise(lambda: ValueError("\x00")),
    "long_message": _raise(lambda: ValueError("x" * 20_000_000)),
    "bytes_message": _raise(lambda: ValueError(b"\xff\x00")),
    "speechless": _raise(SpeechlessError),
    "group": _raise(lambda: ExceptionGroup("many", [ValueError(str(n)) for n in range(2000)])),
    "chain": _chain,
    "recursion": _recursion,
    "exit": _raise(lambda: SystemExit(3)),
    "interrupt": _raise(KeyboardInterrupt),
    "stop_iteration": _raise(lambda: StopIteration(1)),
    "generator_exit": _raise(GeneratorExit),
    "memory": _raise(MemoryError),
}
