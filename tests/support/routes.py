"""What is said of the site's routes: routes.txt beside the tests they belong to."""

import json
from typing import Any, NamedTuple

from programs import PROJECT

CALLERS = ("nobody", "owner", "other", "viewer", "operator", "admin")

type Line = tuple[str, str]  # a method and a route


class Expected(NamedTuple):
    """How each caller is answered, and what they send."""

    statuses: list[int]
    body: dict[str, Any] | None


def table() -> dict[Line, Expected]:
    """Return the lines of all those files."""
    lines = {}
    for file in sorted((PROJECT / "tests").rglob("routes.txt")):
        for line in file.read_text().splitlines():
            if not line.startswith("#"):
                method, route, *rest = line.split(maxsplit=len(CALLERS) + 2)
                statuses, body = rest[: len(CALLERS)], rest[len(CALLERS) :]
                sent = json.loads(body[0]) if body else None
                lines[method, route.removeprefix("/")] = Expected([*map(int, statuses)], sent)
    return lines
