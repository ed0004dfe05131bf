"""The two sides of a comparison: A, another commit checked out below var/, and B, this tree."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import child, journal
from benchmarks.environment import DATABASE_SUFFIX, HOME, LOGS, ROOT

CHECKOUT = HOME / "pairs" / "checkout"
REQUIREMENTS = Path("requirements", "base.txt")

# Both sides do the same work and are measured by the same code, so A gets these files of this tree.
# It keeps the rest, and so the two of benchmarks/ours that know its schema and its engine.
SAME_ON_BOTH = ["*.py", "ours/menu.py", "ours/functions.py"]

# Says where the worker's code comes from: `system.Processes` gives ROOT to the worker.
WHERE = "import pgjobs.worker as w, benchmarks.environment as e; print(w.__file__, e.ROOT)"


class SideError(Exception):
    """A side cannot be made: the message says why."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two: its letter, what git calls it, its code, and the Python that runs it."""

    name: str
    commit: str
    root: Path
    python: Path

    def measure(self, *arguments: str, servers: dict[str, str]) -> child.Row:
        """Return what benchmarks/measure.py prints; subprocess.SubprocessError when it fails."""
        own = {DATABASE_SUFFIX: f"_{self.name.lower()}"}
        return child.measure(
            *arguments, python=self.python, root=self.root, environment={**servers, **own}
        )

    def engine(self) -> Path:
        """Return the file that the side's engine is imported from; SideError: it is not its own."""
        found = [Path(word) for word in self._say(WHERE).split()]
        if not all(path.is_relative_to(self.root) for path in found) or found[1] != self.root:
            raise SideError(f"{self.name} would run other code: {found}, not of {self.root}")
        return found[0]

    def _say(self, program: str) -> str:
        # From the directory that workers start in, where only PYTHONPATH leads to the code.
        LOGS.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "PYTHONPATH": str(self.root)}
        return _run(self.python, "-c", program, cwd=LOGS, env=environment)


@contextmanager
def both(revision: str) -> Iterator[tuple[Side, Side]]:
    """Yield A, the commit, and B, this tree; the checkout of A is removed at the end.

    SideError: there is no such commit, or it cannot be measured.
    """
    here = Side(name="B", commit=journal.commit(), root=ROOT, python=Path(sys.executable))
    commit = _run("git", "rev-parse", "--short", "--verify", f"{revision}^{{commit}}").strip()
    with _checked_out(commit):
        _equip()
        yield Side(name="A", commit=commit, root=CHECKOUT, python=_python()), here


@contextmanager
def _checked_out(commit: str) -> Iterator[None]:
    if CHECKOUT.exists():  # left by a run that was killed
        _remove()
    # --force: git may remember a checkout whose directory is gone.
    _run("git", "worktree", "add", "--force", "--detach", CHECKOUT, commit)
    try:
        yield
    finally:
        _remove()


def _remove() -> None:
    _run("git", "worktree", "remove", "--force", CHECKOUT)


def _equip() -> None:
    """Give the checkout the files that both sides share, this tree's .env and its logs."""
    if not (CHECKOUT / "benchmarks" / "ours" / "system.py").exists():
        raise SideError("The commit cannot be measured: it has no benchmarks/ours/system.py.")
    ours = ROOT / "benchmarks"
    for file in (file for pattern in SAME_ON_BOTH for file in ours.glob(pattern)):
        shutil.copy(file, CHECKOUT / file.relative_to(ROOT))
    if (ROOT / ".env").exists():
        shutil.copy(ROOT / ".env", CHECKOUT)
    logs = CHECKOUT / LOGS.relative_to(ROOT)
    logs.parent.mkdir(parents=True)
    logs.symlink_to(LOGS)  # they outlive the checkout


def _python() -> Path:
    """Return this interpreter, or one of the checkout's own where its requirements differ."""
    if (CHECKOUT / REQUIREMENTS).read_bytes() == (ROOT / REQUIREMENTS).read_bytes():
        return Path(sys.executable)
    print("pairs: installs what A requires", flush=True)
    _run("make", "install", "VENV=.venv", f"INTERPRETER={sys.executable}", cwd=CHECKOUT)
    return CHECKOUT / ".venv" / "bin" / "python"


def _run(*command: str | Path, cwd: Path = ROOT, env: dict[str, str] | None = None) -> str:
    """Return what the command prints; SideError with what it complains of."""
    done = subprocess.run(  # noqa: S603 # git, make and our own interpreters
        command, cwd=cwd, env=env, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SideError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout
