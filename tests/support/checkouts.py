"""A copy of the project, to do there what a page tells people to do, and to run what they run."""

import os
import shutil
import subprocess
import sysconfig
import time
import venv
from pathlib import Path

from programs import PROJECT, SCRIPTS

# What a checkout does not bring, or what others write to meanwhile.
LEFT_OUT = (".git", ".venv*", ".*_cache", ".hypothesis", "__pycache__", "build", "dist", "var")
# What this machine, and the run of the tests, say to our own checkout.
OURS = (
    "COV", "DATABASE_URL", "DJANGO_", "JOBS_", "MAKE", "PG", "PROCESS_ROLE", "PYTEST", "PYTHON",
)  # fmt: skip


class Checkout:
    """A copy of the project, with a virtual environment that knows it and no other."""

    def __init__(self, root: Path) -> None:
        self.root = root
        left_out = shutil.ignore_patterns(*LEFT_OUT)
        shutil.copytree(PROJECT, root, ignore=left_out, dirs_exist_ok=True)
        _install(root, root / ".venv")

    def run(self, *command: str) -> str:
        """Run a program, of its environment first, to its end; return what it wrote.

        It has to end well. It hears nothing of the databases and settings of the tests.
        """
        plain = {name: text for name, text in os.environ.items() if not name.startswith(OURS)}
        path = f"{self.root / '.venv' / 'bin'}{os.pathsep}{plain['PATH']}"
        ended = subprocess.run(  # noqa: S603 # our own commands
            command,
            cwd=self.root,
            env={**plain, "PATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout
        return ended.stdout


def _install(root: Path, place: Path) -> None:
    """Make an environment that finds the copy, then what is installed in ours.

    For make it is newer than whatever it is made of, so that nothing is installed.
    """
    venv.create(place, symlinks=True)
    (packages,) = place.glob("lib/python*/site-packages")
    ours = sysconfig.get_path("purelib")
    (packages / "checkout.pth").write_text(f"{root}\nimport site; site.addsitedir({ours!r})\n")
    for program in Path(SCRIPTS).iterdir():
        if not (place / "bin" / program.name).exists():
            _borrow(program, place / "bin" / program.name)
    tomorrow = time.time() + 86_400
    for stamp in (place / ".runnable", place / ".installed"):
        stamp.touch()
        os.utime(stamp, (tomorrow, tomorrow))


def _borrow(program: Path, copy: Path) -> None:
    """Let a script start with the Python beside the copy; link to what is none."""
    if program.read_bytes()[:2] != b"#!":
        copy.symlink_to(program)
        return
    _shebang, _, script = program.read_text().partition("\n")
    copy.write_text(f"#!{copy.parent / 'python'}\n{script}")
    copy.chmod(0o755)
