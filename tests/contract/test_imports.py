"""What importing the project loads, and what it leaves to the worker."""

import subprocess
import sys

from programs import PROJECT


def test_importing_myapp_loads_nothing_of_the_worker() -> None:
    loaded = _python(
        "import os, sys, pkgutil, importlib\n"
        "os.environ['DJANGO_SETTINGS_MODULE'] = 'myproj.settings'\n"
        "import django; django.setup()\n"
        "import myapp, myproj.urls, myproj.asgi\n"
        "for module in pkgutil.walk_packages(myapp.__path__, 'myapp.'):\n"
        "    importlib.import_module(module.name)\n"
        "print([name for name in sys.modules if name.split('.')[0] == 'tasks'])"
    )

    assert loaded == "[]"


def test_the_menu_needs_no_registry_and_loads_no_models() -> None:
    loaded = _python(
        "import os, sys\n"
        "os.environ['DJANGO_SETTINGS_MODULE'] = 'myproj.settings'\n"
        "from myapp.tasks import app\n"
        "ours = ('myapp', 'pgjobs')\n"
        "print([n for n in sys.modules if n.endswith('.models') and n.startswith(ours)"
        " or n.split('.')[0] in ('tasks', 'rest_framework', 'procrastinate')])"
    )

    assert loaded == "[]"


def _python(code: str) -> str:
    return subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], check=True, cwd=PROJECT, capture_output=True, text=True
    ).stdout.strip()
