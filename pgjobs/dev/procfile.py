"""Read the Procfile, the one statement of which processes a project consists of."""

import re
from collections.abc import Mapping
from pathlib import Path

from pgjobs.dev.errors import ProcfileInvalidError

_LINE = re.compile(r"(?P<name>[\w-]+):\s*(?P<command>\S.*)")


def read_procfile(path: Path, defaults: Mapping[str, str]) -> dict[str, str]:
    """Return the command of each name in `defaults`: the Procfile's, else the default one.

    Raises:
        ProcfileInvalidError: the file is there and cannot be read.
    """
    try:
        text = path.read_text()
    except FileNotFoundError:
        text = ""
    except (OSError, UnicodeDecodeError) as error:
        raise ProcfileInvalidError(path=path, problem=error) from error
    commands = {
        line["name"]: line["command"].rstrip()
        for line in map(_LINE.fullmatch, text.splitlines())
        if line
    }
    return {name: commands.get(name, default) for name, default in defaults.items()}
