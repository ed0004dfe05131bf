"""Tasks of installed apps are found without being listed anywhere."""

from collections.abc import Callable
from types import ModuleType

import pytest
from django.apps.registry import Apps
from letters.tasks import send_letter
from postcards.tasks import send_postcard
from programs import Program, eventually

from pgjobs.defer import discovery
from pgjobs.defer.bridge import declare
from pgjobs.defer.discovery import DuplicateTaskError, declared_specs, worker_modules
from pgjobs.tracking.models import Task

INSTALLED = "settings_with_apps"


@pytest.mark.worker
@pytest.mark.django_db(transaction=True)
def test_a_worker_runs_the_tasks_of_two_apps_that_nothing_lists(
    start_worker: Callable[..., Program],
) -> None:
    start_worker(DJANGO_SETTINGS_MODULE=INSTALLED)

    handles = [send_postcard.defer(to="ada"), send_letter.defer(to="bob")]

    eventually(lambda: not Task.objects.filter(end_status__isnull=True).exists())
    results = [Task.objects.get(pk=handle.task_id).result for handle in handles]
    assert results == [{"sent": "postcard", "to": "ada"}, {"sent": "letter", "to": "bob"}]


def test_declarations_and_functions_are_found_in_installed_apps_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "send_letter" not in declared_specs()

    monkeypatch.setattr(discovery, "apps", Apps(["postcards", "letters"]))

    assert declared_specs() == {"send_postcard": send_postcard, "send_letter": send_letter}
    assert worker_modules() == ["postcards.worker", "letters.worker"]


def test_two_declarations_of_one_name_are_refused() -> None:
    def menu() -> ModuleType:
        @declare(queue="q")
        def twice() -> None: ...

        module = ModuleType("menu")
        module.__dict__["twice"] = twice
        return module

    with pytest.raises(DuplicateTaskError, match="named twice"):
        declared_specs(menu(), menu())
