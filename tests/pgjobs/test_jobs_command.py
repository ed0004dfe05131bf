"""`manage.py jobs`: Django's options may stand anywhere, and the files of a project are found."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.management import execute_from_command_line
from programs import PROJECT

OPTIONS = ("--pythonpath", "tests/support", "--settings=fast_password_settings")


@pytest.mark.parametrize("words", [("worker", *OPTIONS), (*OPTIONS, "worker")])
def test_a_worker_may_be_told_which_settings_to_take(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    became: dict[str, Any] = {}
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", os.environ["DJANGO_SETTINGS_MODULE"])
    monkeypatch.setenv("PYTHONPATH", "/before")
    monkeypatch.setattr(sys, "path", [str(PROJECT), *sys.path])
    # Nothing comes back from it, so that this process would be the worker.
    monkeypatch.setattr(
        "os.execve",
        lambda _path, program, environment: became.update(program=program, **environment),
    )

    execute_from_command_line(["manage.py", "jobs", *words, "--queues=mail"])

    assert became["program"][-2:] == ["worker", "--queues=mail"]
    assert became["DJANGO_SETTINGS_MODULE"] == "fast_password_settings"
    paths = dict.fromkeys(became["PYTHONPATH"].split(os.pathsep))
    assert list(paths) == [str(PROJECT / "tests/support"), str(PROJECT), "/before"]


@pytest.mark.parametrize("words", [("init", *OPTIONS), (*OPTIONS, "init")])
@pytest.mark.parametrize("called", ["manage.py", "django-admin"])
def test_the_procfile_stands_beside_manage_py(
    words: tuple[str, ...],
    called: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    settings: Any,
) -> None:
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", os.environ["DJANGO_SETTINGS_MODULE"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "argv", [f"/usr/bin/{called}"])
    if called == "manage.py":
        monkeypatch.setattr(sys, "argv", [str(tmp_path / called)])
    monkeypatch.chdir(tmp_path)
    settings.BASE_DIR = None  # it may lie elsewhere, or be missing

    execute_from_command_line([called, "jobs", *words])

    assert f"# To {tmp_path / 'Procfile'}:\nworker: " in capsys.readouterr().out
