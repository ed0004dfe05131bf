"""Notice edits of what the web and worker processes have loaded."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Thread

from watchfiles import Change, DefaultFilter, watch

from pgjobs.dev.console import Console

# Directories with code are watched, with everything below them, but for these.
NOT_LOADED = frozenset({"benchmarks", "docs", "tests", "var"})
ROOT_FILES = frozenset({"Procfile", ".env"})
SUFFIXES = frozenset({".py", ".html", ".txt", ".css", ".js", ".svg", ".sql", ".mo"})

# Seconds until the watching threads notice that they shall end.
END_SECONDS = 1.0

type Edits = SimpleQueue[list[str]]
type Changes = Iterator[set[tuple[Change, str]]]


@contextmanager
def watching(root: Path, edits: Edits, console: Console) -> Iterator[None]:
    """Put the changed paths, relative to `root`, into `edits` while the `with` block runs."""
    # The launcher says what changed; the library would say it once more.
    logging.getLogger("watchfiles").setLevel(logging.WARNING)
    root, stop = root.resolve(), Event()
    sources = watch(*_code_of(root), watch_filter=SourceFilter(), stop_event=stop)
    # A file that editors replace can only be watched through its directory.
    root_files = watch(root, watch_filter=_is_root_file, stop_event=stop, recursive=False)
    hand_over = partial(_hand_over, root=root, edits=edits, console=console)
    threads = [Thread(target=hand_over, args=[it], daemon=True) for it in (sources, root_files)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(END_SECONDS)


def _code_of(root: Path) -> list[Path]:
    """Return the directories of a project that its processes load from."""
    directories = {path.parent for path in root.glob("*/*.py")}
    return sorted(
        path
        for path in directories
        if path.name not in NOT_LOADED and not path.name.startswith(".")
    )


class SourceFilter(DefaultFilter):
    """Code, templates and static files; neither caches nor editors' temporary files."""

    def __call__(self, change: Change, path: str) -> bool:
        return Path(path).suffix in SUFFIXES and super().__call__(change, path)


def _is_root_file(_change: Change, path: str) -> bool:
    return Path(path).name in ROOT_FILES


def _hand_over(changes: Changes, *, root: Path, edits: Edits, console: Console) -> None:
    try:
        for changed in changes:
            edits.put(sorted({str(Path(path).relative_to(root)) for _change, path in changed}))
    # Mostly the system's limit on watches: a session without restarts is still of use.
    except (OSError, RuntimeError) as error:
        console.line(f"Edits are not noticed: {error}")
