"""Finds tasks in installed apps: declared in `<app>/tasks.py`, implemented in `<app>/worker.py`.

The first is for web and worker and imports only the bridge; the second is for the worker only and
takes its `app` from `pgjobs.worker_app`. Nothing has to be listed anywhere.
"""

from importlib import import_module
from types import ModuleType

from django.apps import apps
from django.utils.module_loading import module_has_submodule

from pgjobs.defer.bridge import TaskSpec, specs_in
from pgjobs.errors import AppError


class DuplicateTaskError(AppError):
    """Two different declarations are named {name}; names are what jobs are known by."""

    code = "duplicate_task"


def declared_specs(*menus: ModuleType) -> dict[str, TaskSpec[...]]:
    """Return every declaration in `menus` and in the `tasks` modules of installed apps, by name.

    Call it once the registry is ready.

    Raises:
        DuplicateTaskError: two declarations have one name.
    """
    specs: dict[str, TaskSpec[...]] = {}
    for module in (*menus, *map(import_module, _modules("tasks"))):
        for name, spec in specs_in(vars(module)).items():
            if specs.setdefault(name, spec) is not spec:
                raise DuplicateTaskError(name=name)
    return specs


def worker_modules() -> list[str]:
    """Return the `worker` modules of installed apps, which implement what they declare."""
    return _modules("worker")


def _modules(name: str) -> list[str]:
    return [
        f"{config.name}.{name}"
        for config in apps.get_app_configs()
        if config.module and module_has_submodule(config.module, name)
    ]
