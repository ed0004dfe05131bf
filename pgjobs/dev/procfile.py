"""Read the Procfile, the one statement of which processes this project consists of."""

import re
from collections.abc import Iterable
from pathlib import Path

from pgjobs.dev.errors import ProcfileInvalidError

_LINE = re.compile(r"(?P<name>[\w-]+):\s*(?P<command>\S.*)")


def read_procfile(path: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the command of each of `names`, in this order.

    Raises:
        ProcfileInvalidError: the file cannot be read, or lacks a line for one of the names.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ProcfileInvalidError(path=path, problem=error) from error
    commands = {
        line["name"]: line["command"].rstrip()
        for line in map(_LINE.fullmatch, text.splitlines())
        if line
    }
    for name in names:
        if name not in commands:
            raise ProcfileInvalidError(path=path, problem=f"it has no line '{name}: <command>'.")
    return {name: commands[name] for name in names}
