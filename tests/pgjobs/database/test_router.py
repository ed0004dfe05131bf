"""Tables of jobs live in the entry that JOBS_DATABASE_ALIAS names, and nothing else does."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import connections, router
from knox.models import get_token_model
from procrastinate.contrib.django.models import ProcrastinateJob

from pgjobs.access.audit.models import Entry
from pgjobs.api.keys.models import Key
from pgjobs.api.throttles.fairness import FairShare, fair_share
from pgjobs.api.tokens.models import Terms
from pgjobs.database import alias
from pgjobs.database.alias import leads_to_jobs
from pgjobs.database.router import JOBS_ROUTER
from pgjobs.tracking.models import Task

OURS = ("pgjobs", "pgjobs_api", "procrastinate")


class Everything:
    """A router of a project that has an opinion of all."""

    def db_for_read(self, _model: Any, **_hints: Any) -> str:
        return "replica"

    def db_for_write(self, _model: Any, **_hints: Any) -> str:
        return "default"


class UsersToo:
    def allow_migrate(self, db: str, app_label: str, **_hints: Any) -> bool | None:
        return db == "jobs" if app_label == "users" else None


@pytest.fixture(autouse=True)
def jobs(monkeypatch: pytest.MonkeyPatch, settings: Any) -> Iterator[dict[str, Any]]:
    """An entry of another place, which holds the jobs."""
    entry = {**connections.settings["default"], "HOST": "jobs.example.org", "TEST": {}}
    monkeypatch.setitem(connections.settings, "jobs", entry)
    alias._place.cache_clear()
    settings.JOBS_DATABASE_ALIAS = "jobs"
    yield entry
    alias._place.cache_clear()


@pytest.mark.parametrize("model", [Task, Entry, Key, ProcrastinateJob])
@pytest.mark.parametrize("routers", [[], [f"{__name__}.Everything"]])
def test_jobs_are_read_and_written_there_whatever_other_routers_say(
    model: Any, routers: list[str], settings: Any
) -> None:
    settings.DATABASE_ROUTERS = [JOBS_ROUTER, *routers]

    assert (router.db_for_read(model), router.db_for_write(model)) == ("jobs", "jobs")


def test_the_terms_of_tokens_live_where_tokens_do(settings: Any) -> None:
    assert router.db_for_read(Terms) == router.db_for_write(get_token_model()) == "default"

    assert router.allow_migrate("default", "pgjobs_api", model_name="terms")
    assert not router.allow_migrate("jobs", "pgjobs_api", model_name="terms")


def test_an_owner_is_looked_for_where_users_are() -> None:
    task = Task()
    task._state.db = "jobs"

    users = get_user_model()
    assert router.db_for_read(users, instance=task) == "default"
    assert router.db_for_write(users, instance=task) == "default"
    assert router.allow_relation(users(), task)


@pytest.mark.parametrize("label", OURS)
def test_their_tables_are_made_there_alone(label: str) -> None:
    assert router.allow_migrate("jobs", label)
    assert not router.allow_migrate("default", label)


def test_tables_of_others_are_made_there_if_a_router_says_so(settings: Any) -> None:
    assert not router.allow_migrate("jobs", "users")
    assert router.allow_migrate("default", "users")

    settings.DATABASE_ROUTERS = [JOBS_ROUTER, f"{__name__}.UsersToo"]

    assert router.allow_migrate("jobs", "users")
    assert not router.allow_migrate("jobs", "auth")


@pytest.mark.parametrize("said", [True, False])
def test_all_tables_are_made_in_either_entry_of_one_database(
    said: bool, jobs: dict[str, Any]
) -> None:
    if said:
        jobs["TEST"]["MIRROR"] = "default"
    else:
        jobs["HOST"] = connections.settings["default"]["HOST"]

    assert leads_to_jobs("default")
    for label in (*OURS, "users"):
        assert router.allow_migrate("default", label)
        assert router.allow_migrate("jobs", label)


def test_the_smaller_pool_is_shared(monkeypatch: pytest.MonkeyPatch, jobs: dict[str, Any]) -> None:
    async def site(_scope: Any, _receive: Any, _send: Any) -> None: ...

    assert fair_share(site) is site
    default = connections.settings["default"]
    monkeypatch.setitem(default, "OPTIONS", {"pool": {"max_size": 10}})
    jobs["OPTIONS"] = {"pool": True}

    shared = fair_share(site)

    assert isinstance(shared, FairShare)
    assert (shared._of_caller, shared._of_address) == (2, 3)
