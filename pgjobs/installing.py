"""What a project lacks for its jobs, as lines for its files: `manage.py jobs init`."""

import sys
from dataclasses import dataclass
from pathlib import Path

from django.apps import apps
from django.conf import settings
from django.urls import NoReverseMatch, reverse

API_APPS = ("rest_framework", "knox", "drf_spectacular", "pgjobs.api")
URLS = """
from django.urls import include, path

urlpatterns += [path("api/", include("pgjobs.api.urls"))]
"""
PROCFILE = "worker: python manage.py jobs worker\n"
WORKER_APP = '\nJOBS_WORKER_APP = "tasks.app"\n'
WORKER_PACKAGE = '''"""The worker: `procrastinate --app=tasks.app worker`. Web never imports it."""

import os
import pkgutil

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "{settings}")
os.environ.setdefault("PROCESS_ROLE", "worker")

import django
from django.apps import apps

if not apps.ready:
    django.setup()

from pgjobs.defer.discovery import declared_specs, worker_modules
from pgjobs.worker.app import JobsApp

# Every module beside this one may implement tasks: `from tasks import app`.
_modules = [f"{{__name__}}.{{module.name}}" for module in pkgutil.iter_modules(__path__)]

app = JobsApp(specs=declared_specs(), import_paths=[*_modules, *worker_modules()])
'''


@dataclass(frozen=True)
class Piece:
    """Lines that a file lacks, at its end; the file may be missing as well."""

    path: Path
    lines: str

    def write(self) -> None:
        """Add the lines to the file."""
        self.path.parent.mkdir(exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(self.lines)


def missing_pieces(*, api: bool = False, worker_package: bool = False) -> list[Piece]:
    """Return what a project lacks: to start a worker, and for what it wants besides."""
    pieces = [*_worker_line()]
    if api:
        pieces += [*_api_apps(), *_api_urls()]
    if worker_package:
        pieces += [*_worker_package()]
    return pieces


def _worker_line() -> list[Piece]:
    path = _root() / "Procfile"
    known = path.read_text(encoding="utf-8") if path.exists() else ""
    return [] if "jobs worker" in known or "procrastinate" in known else [Piece(path, PROCFILE)]


def _api_apps() -> list[Piece]:
    lacking = [name for name in API_APPS if not apps.is_installed(name)]
    names = ", ".join(f'"{name}"' for name in lacking)
    return [Piece(_settings_file(), f"\nINSTALLED_APPS += [{names}]\n")] if lacking else []


def _api_urls() -> list[Piece]:
    try:
        reverse("pgjobs:task-list")
    except NoReverseMatch:
        return [Piece(_file_of(settings.ROOT_URLCONF), URLS)]
    return []


def _worker_package() -> list[Piece]:
    path = _root() / "tasks" / "__init__.py"
    if path.parent.exists():
        return []
    package = WORKER_PACKAGE.format(settings=settings.SETTINGS_MODULE)
    return [Piece(path, package), Piece(_settings_file(), WORKER_APP)]


def _root() -> Path:
    """Return where manage.py stands, or else the present directory; BASE_DIR may lie elsewhere."""
    program = Path(sys.argv[0]).resolve()
    return program.parent if program.name == "manage.py" else Path.cwd()


def _settings_file() -> Path:
    return _file_of(settings.SETTINGS_MODULE)


def _file_of(module: str) -> Path:
    return Path(str(sys.modules[module].__file__))
