"""Installs the peers beside the project: a virtual environment and a folder of Node modules."""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from benchmarks.environment import NODE_MODULES, PEERS_PYTHON, ROOT

HERE = Path(__file__).resolve().parent
LOCK = ROOT / "requirements" / "base.txt"
REQUIREMENTS = HERE / "requirements.txt"
PACKAGE = HERE / "package.json"


def install_python_peers() -> None:
    """Make var/bench/venv hold what this project needs and the peers, unless it does already."""
    stamp = PEERS_PYTHON.parent.parent / ".installed"
    if _is_current(stamp, (LOCK, REQUIREMENTS)):
        return
    print(f"Installing the peers into {PEERS_PYTHON.parent.parent} (once) ...", flush=True)
    _run(sys.executable, "-m", "venv", "--clear", PEERS_PYTHON.parent.parent)
    pip = [PEERS_PYTHON, "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    _run(*pip, "--require-hashes", "-r", LOCK)
    _run(*pip, "-r", REQUIREMENTS)
    stamp.write_text(_digest((LOCK, REQUIREMENTS)))


def install_node_peers() -> bool:
    """Make var/bench/node hold the Node peer; False where there is no npm."""
    npm = shutil.which("npm")
    if npm is None:
        return False
    folder = NODE_MODULES.parent
    stamp = folder / ".installed"
    if not _is_current(stamp, (PACKAGE,)):
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(PACKAGE, folder)
        _run(npm, "install", "--silent", "--no-package-lock", "--prefix", folder)
        stamp.write_text(_digest((PACKAGE,)))
    return True


def versions() -> dict[str, str]:
    """Return the versions of what is compared, by name."""
    listed = subprocess.run(  # noqa: S603 # our own interpreter
        [PEERS_PYTHON, "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found = dict(line.split("==") for line in listed.split() if "==" in line)
    names = [line.partition("==")[0].partition("[")[0] for line in _pins(REQUIREMENTS)]
    return {name: found[name] for name in sorted(names) if name in found} | _node_versions()


def _node_versions() -> dict[str, str]:
    if shutil.which("node") is None:
        return {}
    said = subprocess.run(["node", "--version"], check=True, capture_output=True, text=True)  # noqa: S607
    return {"Node": said.stdout.strip().removeprefix("v"), "graphile-worker": _pinned_node()}


def _pinned_node() -> str:
    return PACKAGE.read_text().split('"graphile-worker": "')[1].split('"')[0]


def _pins(path: Path) -> Iterable[str]:
    return (line for line in path.read_text().splitlines() if "==" in line)


def _is_current(stamp: Path, sources: Iterable[Path]) -> bool:
    return stamp.exists() and stamp.read_text() == _digest(sources)


def _digest(sources: Iterable[Path]) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


def _run(*command: object) -> None:
    subprocess.run([str(part) for part in command], check=True)  # noqa: S603 # see callers
