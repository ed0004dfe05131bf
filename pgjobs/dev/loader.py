"""The process that loads the project (load.py), as the session that started it sees it."""

import json
import os
import subprocess  # nosec B404 # see process.py
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import IO, Any

from pgjobs.dev.brief import MANAGE
from pgjobs.dev.process import spawn

# A message that the process sent: its kind, and a value.
type Message = tuple[str, Any]

# So much is shown of what it printed, where it ended without a reason of ours.
SHOWN_LINES = 12


class Loader:
    """One run of load.py. Start it in the main thread only (see process.spawn)."""

    def __init__(
        self, root: Path, *, port: int, changed: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        ours, its = os.pipe()
        brief = Path(__file__).with_name("brief.py")
        options = ["jobs", "dev", f"--report-to={its}", f"--port={port}", *changed]
        try:
            # -P: what stands beside brief.py is not to be imported by its bare name.
            self._process = spawn(
                [sys.executable, "-P", str(brief), str(its), MANAGE, *options],
                pass_fds=[its],
                cwd=root,
                env=dict(environment),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        finally:
            os.close(its)
        self._messages: SimpleQueue[Message] = SimpleQueue()
        # What the project prints while it is loaded, its processes print as well.
        self._printed: deque[str] = deque(maxlen=SHOWN_LINES)
        output = self._process.stdout
        assert output is not None  # noqa: S101 # nosec B101 # we asked for a pipe
        self._readers = [
            Thread(target=self._read_messages, args=[os.fdopen(ours)], daemon=True),
            Thread(target=self._read_output, args=[output], daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def messages(self) -> Iterator[Message]:
        """Yield what it has said since the last call."""
        with suppress(Empty):
            while True:
                yield self._messages.get_nowait()

    def answer(self, text: str) -> None:
        """Answer what it asked."""
        stdin = self._process.stdin
        assert stdin is not None  # noqa: S101 # nosec B101 # we asked for a pipe
        with suppress(BrokenPipeError):  # it has just ended
            stdin.write(f"{text}\n".encode())
            stdin.flush()

    def exit_code(self) -> int | None:
        """Return None until it has ended and all that it said is in `messages`."""
        if any(reader.is_alive() for reader in self._readers):
            return None
        return self._process.poll()

    def last_words(self) -> list[str]:
        """Return the end of what it printed."""
        return list(self._printed)

    def stop(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.wait()

    def _read_messages(self, pipe: IO[str]) -> None:
        with pipe:
            for line in pipe:
                kind, value = json.loads(line)
                self._messages.put((kind, value))

    def _read_output(self, output: IO[bytes]) -> None:
        with output:
            for line in output:
                self._printed.append(line.decode(errors="replace").rstrip())
