"""Server-sent events as curl receives them."""

import json
from dataclasses import dataclass
from typing import Any

from programs import Program


@dataclass(frozen=True)
class Event:
    """One event; comments are none."""

    kind: str
    id: str
    data: Any

    @property
    def status(self) -> str:
        return str(self.data["status"])


class Stream:
    """`curl -N`, whose output is read while it runs."""

    def __init__(self, url: str, *, token: str = "", **headers: str) -> None:
        sent = {"Authorization": f"Token {token}", **headers} if token else headers
        options = [f"-H{name.replace('_', '-')}: {value}" for name, value in sent.items()]
        self.program = Program(["curl", "-sNi", *options, url], {})

    def event(self) -> Event:
        """Return the next event."""
        return Event(self._field("event"), self._field("id"), json.loads(self._field("data")))

    def _field(self, name: str) -> str:
        line = ""
        while not line.startswith(f"{name}: "):  # headers have ids, too
            line = self.program.line(f"{name}: ")
        return line.removeprefix(f"{name}: ")

    def until_result(self) -> list[Event]:
        """Return the events up to the end of the task, and see the stream end."""
        events = [self.event()]
        while events[-1].kind != "result":
            events.append(self.event())
        assert self.program.end() == 0
        return events

    def text(self) -> str:
        """Return all that came, once it has ended."""
        assert self.program.end() == 0
        return "\n".join(self.program.lines)

    def close(self) -> None:
        self.program.destroy()
