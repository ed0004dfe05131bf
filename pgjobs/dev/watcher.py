"""Notice edits of what the web and worker processes have loaded."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Thread

from watchfiles import Change, DefaultFilter, watch

from pgjobs.dev.console import Console

# Directories with code are watched, with everything below them, but for these.
NOT_LOADED = frozenset({"benchmarks", "docs", "node_modules", "tests", "var"})
VIRTUAL_ENVIRONMENT = "pyvenv.cfg"
# A directory has code if some is so near: apps may be kept in a directory of their own.
CODE = ("*.py", "*/*.py", "*/*/*.py")
ROOT_FILES = frozenset({"Procfile", ".env"})
SUFFIXES = frozenset({".py", ".html", ".txt", ".css", ".js", ".svg", ".sql", ".mo"})

# Seconds until the watching threads notice that they shall end.
END_SECONDS = 1.0

type Edits = SimpleQueue[list[str]]


@contextmanager
def watching(root: Path, edits: Edits, console: Console) -> Iterator[None]:
    """Put the changed paths, relative to `root`, into `edits` while the `with` block runs."""
    # The session says what changed; the library would say it once more.
    logging.getLogger("watchfiles").setLevel(logging.WARNING)
    watcher = _Watcher(root.resolve(), edits, console)
    threads = [
        Thread(target=watcher.run, args=[work], daemon=True)
        for work in (watcher.watch_sources, watcher.watch_root)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        watcher.stop()
        for thread in threads:
            thread.join(END_SECONDS)


class _Watcher:
    def __init__(self, root: Path, edits: Edits, console: Console) -> None:
        self._root = root
        self._edits = edits
        self._console = console
        self._directories = _code_of(root)
        self._stop = Event()
        # Ends the watch of the directories, at the end and when there are others.
        self._renew = Event()

    def run(self, work: Callable[[], None]) -> None:
        try:
            work()
        # Mostly the system's limit on watches: a session without restarts is still of use.
        except (OSError, RuntimeError) as error:
            self._console.line(f"Edits are not noticed: {error}")

    def stop(self) -> None:
        self._stop.set()
        self._renew.set()

    def watch_sources(self) -> None:
        while True:
            self._renew.clear()
            if self._stop.is_set():
                return
            for changed in watch(
                *self._directories, watch_filter=SourceFilter(), stop_event=self._renew
            ):
                self._hand_over(Path(path) for _change, path in changed)

    def watch_root(self) -> None:
        # A file that editors replace can only be watched through its directory.
        for changed in watch(self._root, watch_filter=None, stop_event=self._stop, recursive=False):
            self._hand_over(path for _, name in changed if _is_root_file(path := Path(name)))
            if (directories := _code_of(self._root)) != self._directories:
                self._directories = directories
                self._renew.set()

    def _hand_over(self, paths: Iterator[Path]) -> None:
        if changed := sorted({str(path.relative_to(self._root)) for path in paths}):
            self._edits.put(changed)


class SourceFilter(DefaultFilter):
    """Code, templates and static files; neither caches nor editors' temporary files."""

    def __call__(self, change: Change, path: str) -> bool:
        return Path(path).suffix in SUFFIXES and super().__call__(change, path)


def _code_of(root: Path) -> list[Path]:
    """Return the directories of a project that its processes load from."""
    return sorted(path for path in root.iterdir() if path.is_dir() and _has_code(path))


def _has_code(path: Path) -> bool:
    if path.name in NOT_LOADED or path.name.startswith("."):
        return False
    if (path / VIRTUAL_ENVIRONMENT).exists():
        return False
    return any(next(path.glob(pattern), None) for pattern in CODE)


def _is_root_file(path: Path) -> bool:
    return path.name in ROOT_FILES or path.suffix == ".py"
