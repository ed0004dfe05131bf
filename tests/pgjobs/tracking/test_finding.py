"""Finding tasks: the filters of the list, alone and together, and what they refuse."""

import base64
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import job_samples
import pytest
from django.contrib.auth.models import AnonymousUser
from django.db import connection
from django.utils import timezone
from rest_framework.test import APIClient

from pgjobs.api.http import pagination
from pgjobs.defer.bridge import Deferred, owned_by
from pgjobs.tracking import finding
from pgjobs.tracking.models import Task
from pgjobs.tracking.selectors import task_list
from pgjobs.tracking.services import task_cancel
from pgjobs.tracking.states import TaskStatus

pytestmark = pytest.mark.django_db

type ClientOf = Callable[[Any], APIClient]
type Find = Callable[..., list[str]]

SAMPLE_ID = "861476ac-1d3b-4f7e-9d59-4c0f6a1b2c3d"


@pytest.fixture
def mine(user: Any) -> Iterator[None]:
    with owned_by(user.pk):
        yield


@pytest.fixture
def find(client_of: ClientOf, user: Any, mine: None) -> Find:
    """Gives the ids on the page that the user is shown."""
    client = client_of(user)

    def ask(**filters: Any) -> list[str]:
        answer = client.get(f"/api/tasks/?{urlencode(filters, doseq=True)}")
        assert answer.status_code == 200, answer.json()
        return [row["id"] for row in answer.json()["results"]]

    return ask


def _nap(**options: Any) -> str:
    return str(job_samples.nap.configure(**options).defer(seconds=0).task_id)


def _newest_first(*task_ids: str) -> list[str]:
    """Return them as lists have them: two of one millisecond are in no order of their own."""
    return sorted(task_ids, reverse=True)


def _set_job(status: str, task_id: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE procrastinate_jobs SET status = %s"
            " WHERE id = (SELECT job_id FROM pgjobs_task WHERE id = %s)",
            [status, task_id],
        )


def _end(task_id: str, status: TaskStatus, at: datetime | None = None) -> None:
    _set_job({"DONE": "succeeded", "FAILED": "failed"}[status], task_id)
    Task.objects.filter(pk=task_id).update(end_status=status, finished_at=at or timezone.now())


def test_each_status_finds_the_tasks_that_show_it(find: Find) -> None:
    pending, processing, done, failed, cancelled = (_nap() for _ in range(5))
    _set_job("doing", processing)
    _end(done, TaskStatus.DONE)
    _end(failed, TaskStatus.FAILED)
    task_cancel(task_id=UUID(cancelled))

    assert find(status="PENDING") == [pending]
    assert find(status="PROCESSING") == [processing]
    assert find(status="DONE") == [done]
    assert find(status="FAILED") == [failed]
    assert find(status="CANCELLED") == [cancelled]


def test_an_end_by_another_hand_is_found_before_a_worker_has_noticed(find: Find) -> None:
    cancelled, missing, waiting = _nap(), _nap(), _nap()
    _set_job("cancelled", cancelled)
    with connection.cursor() as cursor:
        query = "DELETE FROM procrastinate_jobs WHERE id = %s"
        cursor.execute(query, [Task.objects.get(pk=missing).job_id])

    assert find(status="CANCELLED") == [cancelled]
    assert find(status="FAILED") == [missing]
    assert find(status="PENDING") == [waiting]


def test_without_the_look_at_what_is_unfinished_it_is_not(
    find: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin of the test above."""
    monkeypatch.setattr(finding, "UNNOTICED_ENDS_LOOK", 0)
    _set_job("cancelled", _nap())

    assert find(status="CANCELLED") == []


def test_name_subject_and_id(find: Find) -> None:
    nap = _nap()
    made = str(job_samples.make.defer(made="x").task_id)
    now = timezone.now()
    converted = job_samples.convert.defer(
        sample_id=UUID(SAMPLE_ID), day=now.date(), moment=now, amount=Decimal(1), names=[]
    )

    assert find(task_name="nap") == [nap]
    assert find(related_table="sample") == _newest_first(str(converted.task_id), made)
    assert find(related_id=SAMPLE_ID) == [str(converted.task_id)]
    assert find(related_table="sample", related_id=SAMPLE_ID) == [str(converted.task_id)]
    assert find(related_table="user", related_id=SAMPLE_ID) == []
    assert find(task_name="nap", related_table="sample") == []


def test_tags_are_found_all_together_and_only_among_ones_own(find: Find) -> None:
    both, one = _nap(tags=["nightly", "import 7"]), _nap(tags={"nightly"})
    _nap()
    with owned_by(None):
        _nap(tags=["nightly"])

    assert find(tag="nightly") == _newest_first(one, both)
    assert find(tag=["nightly", "import 7"]) == [both]
    assert find(tag=["nightly", "nightly"]) == _newest_first(one, both)
    assert find(tag="import") == []


def test_the_view_permission_finds_everybodys(
    client_of: ClientOf, user: Any, allow: Any, mine: None
) -> None:
    with owned_by(None):
        theirs = _nap(tags=["nightly"])
    own = _nap(tags=["nightly"])

    viewer = client_of(allow(user, "pgjobs.view_task"))
    rows = viewer.get("/api/tasks/?tag=nightly").json()["results"]
    assert [row["id"] for row in rows] == _newest_first(own, theirs)


def test_times_begin_with_their_first_moment_and_end_before_their_last(find: Find) -> None:
    first, second = _nap(), _nap()
    _end(first, TaskStatus.DONE)
    accepted, ended = Task.objects.values_list("created_at", "finished_at").get(pk=first)
    later = accepted + timedelta(microseconds=1)

    assert find(created_after=accepted.isoformat()) == _newest_first(second, first)
    assert find(created_after=later.isoformat()) == [second]
    assert find(created_before=accepted.isoformat()) == []
    assert find(created_before=later.isoformat()) == [first]
    assert find(finished_after=ended.isoformat()) == [first]
    assert find(finished_before=ended.isoformat()) == []
    after_all = ended + timedelta(seconds=1)
    assert find(finished_after=after_all.isoformat()) == []
    assert find(finished_before=after_all.isoformat()) == [first]


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_the_first_and_the_last_moment_are_times_too(find: Find, moment: str) -> None:
    _nap()

    for name in ("created_after", "created_before", "finished_after", "finished_before"):
        assert len(find(**{name: moment})) <= 1


@pytest.mark.parametrize("apart", [timedelta(seconds=-50), timedelta(seconds=50)])
def test_clocks_of_web_and_database_may_differ(find: Find, apart: timedelta) -> None:
    """The id is by one clock, the time by the other."""
    task_id = _nap()
    at = timezone.now() + apart
    Task.objects.filter(pk=task_id).update(created_at=at)
    before, after = at - timedelta(seconds=1), at + timedelta(seconds=1)

    assert find(created_after=before.isoformat(), created_before=after.isoformat()) == [task_id]


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("state=DONE", "state"), ("Status=DONE", "Status"), ("status=done", "status"),
        ("status=", "status"), ("status=%00", "status"), ("status=DONE&status=FAILED", "status"),
        ("task_name=%00", "task_name"), ("task_name=", "task_name"),
        (f"task_name={'x' * 129}", "task_name"), (f"related_id={'x' * 129}", "related_id"),
        (f"related_table={'x' * 129}", "related_table"), ("related_id=%00", "related_id"),
        (f"tag={'x' * 65}", "tag"), ("tag=a&tag=%00", "tag"), ("tag=", "tag"),
        ("&".join(f"tag={n}" for n in range(11)), "tag"),
        ("created_after=yesterday", "created_after"), ("created_before=1", "created_before"),
        ("finished_after=2026-13-01T00:00:00Z", "finished_after"),
        ("finished_before=%00", "finished_before"),
        ("created_after=0001-01-01T00:00:00%2B14:00", "created_after"),
    ],
)  # fmt: skip
def test_a_filter_that_cannot_be_is_a_400_that_names_it(
    client_of: ClientOf, user: Any, query: str, name: str
) -> None:
    answer = client_of(user).get(f"/api/tasks/?{query}")

    assert answer.status_code == 400
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["errors"][0]["pointer"].split("/")[1] == name


def test_pages_meet_each_task_once_and_keep_their_filters_while_tasks_come_and_end(
    client_of: ClientOf, user: Any, mine: None
) -> None:
    first = [_nap(tags=["nightly"]) for _ in range(7)]
    client, seen = client_of(user), []
    url = "/api/tasks/?limit=3&tag=nightly&task_name=nap"
    while url:
        page = client.get(url).json()
        seen += [row["id"] for row in page["results"]]
        _nap(tags=["nightly"])
        _nap()
        _end(seen[-1], TaskStatus.DONE)
        _end(first[0], TaskStatus.FAILED)
        assert all("tag=nightly" in link for link in (page["next"], page["previous"]) if link)
        url = page["next"] and page["next"].removeprefix("http://testserver")

    assert seen == _newest_first(*first)


RARE = [
    {"task_name": "make"},
    {"related_table": "sample"},
    {"status": "DONE"},
    {"status": "PENDING", "task_name": "make"},
    {"status": "FAILED", "task_name": "make"},
    {"finished_after": "2000-01-01T00:00:00Z"},
    {"tag": "common", "task_name": "make"},
    {"tag": ["common", "rare"]},
    {"related_id": SAMPLE_ID, "status": "DONE"},
]


@pytest.mark.parametrize("way", ["next", "previous"])
@pytest.mark.parametrize("filters", RARE, ids=str)
def test_a_search_gets_through_though_each_page_looks_at_few(
    client_of: ClientOf,
    user: Any,
    mine: None,
    monkeypatch: pytest.MonkeyPatch,
    filters: dict[str, Any],
    way: str,
) -> None:
    made = [_sample_among_others(filters.get("status"), number) for number in range(3)]
    monkeypatch.setattr(pagination, "FIRST_SHARE", 2)
    monkeypatch.setattr(finding, "MOST_COMPARED", 4)
    monkeypatch.setattr(finding, "MOST_COMPARED_OF_TAG", 3)
    client = client_of(user)

    pages = _pages(client, way, limit=2, **filters)

    found = [task_id for page in pages for task_id in (page if way == "next" else page[::-1])]
    assert found == (_newest_first(*made) if way == "next" else sorted(made))
    assert max(map(len, pages)) <= 2
    assert len(pages) > 2, "each page looked at everything"


@pytest.mark.parametrize("way", ["next", "previous"])
def test_a_search_that_turns_round_on_an_empty_page_leaves_nothing_out(
    client_of: ClientOf, user: Any, mine: None, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    made = [_sample_among_others(None, number) for number in range(2)]
    monkeypatch.setattr(pagination, "FIRST_SHARE", 2)
    monkeypatch.setattr(finding, "MOST_COMPARED", 2)
    client, back = client_of(user), {"next": "previous", "previous": "next"}[way]
    url, met, turns = _first(way, task_name="make"), "", 0
    while url:
        page = _page(client, url)
        if page["results"]:
            met = page["results"][-1 if way == "next" else 0]["id"]
        else:
            turns += 1
            assert _nearest(client, page[back], back) == met
        url = page[way]

    assert turns > 2
    assert met in made


def _nearest(client: APIClient, url: str | None, way: str) -> str:
    """Return the first Task that is met this way."""
    while url:
        page = _page(client, url)
        if page["results"]:
            return str(page["results"][-1 if way == "previous" else 0]["id"])
        url = page[way]
    return ""


def _sample_among_others(status: str | None, number: int) -> str:
    """Make the Task that every search of RARE finds, after some that share part of it."""
    for _ in range(5):
        other = _nap(tags=["common"])
        Task.objects.filter(pk=other).update(related_id=SAMPLE_ID)
        _end(other, TaskStatus.FAILED) if status == "FAILED" else None
    task_id = str(
        job_samples.make.configure(tags=["common", "rare"]).defer(made=f"x{number}").task_id
    )
    Task.objects.filter(pk=task_id).update(related_id=SAMPLE_ID)
    if status != "PENDING":
        _end(task_id, TaskStatus(status or "DONE"))
    return task_id


def _pages(client: APIClient, way: str, **query: Any) -> list[list[str]]:
    """Return the ids on each page, from the newest one on, or back from the oldest one."""
    url, pages = _first(way, **query), []
    while url:
        page = _page(client, url)
        pages.append([row["id"] for row in page["results"]])
        url = page[way]
    return pages


def _first(way: str, **query: Any) -> str | None:
    """Return where the list begins with its newest Task, or its oldest one."""
    url = f"/api/tasks/?{urlencode(query, doseq=True)}"
    if way == "next":
        return url
    oldest = f"r=1&p={UUID(int=0)}".encode()
    return f"{url}&cursor={base64.b64encode(oldest).decode()}"


def _page(client: APIClient, url: str) -> Any:
    answer = client.get(url.removeprefix("http://testserver"))
    assert answer.status_code == 200, answer.json()
    return answer.json()


def test_a_search_of_nobody_has_one_empty_page(monkeypatch: pytest.MonkeyPatch) -> None:
    with owned_by(None):
        _nap(tags=["x"])
    monkeypatch.setattr(finding, "MOST_COMPARED_OF_TAG", 1)

    assert finding.walk({"tag": ["x"], "task_name": "make"}, caller=AnonymousUser()) is None


def test_the_detail_shows_the_tags_in_order(client_of: ClientOf, user: Any, mine: None) -> None:
    tagged, plain = _nap(tags=["b", "ä", "a"]), _nap()
    client = client_of(user)

    assert client.get(f"/api/tasks/{tagged}/").json()["tags"] == ["a", "b", "ä"]
    assert client.get(f"/api/tasks/{plain}/").json()["tags"] == []
    assert "tags" not in client.get(f"/api/tasks/{tagged}/status/").json()


def test_no_index_holds_what_changes_while_a_task_runs() -> None:
    """A report of progress then touches the row's page and no index (HOT)."""
    with connection.cursor() as cursor:
        indexes = connection.introspection.get_constraints(cursor, "pgjobs_task").values()

    indexed = {name for each in indexes if each["index"] for name in each["columns"]}
    assert {"id", "owner_id", "end_status"} <= indexed
    assert not indexed & {"progress", "progress_message", "updated_at"}


def test_many_jobs_share_their_tags(find: Find) -> None:
    deferred: list[Deferred] = job_samples.nap.configure(tags=["many"]).defer_many(
        [{"seconds": 0}] * 3
    )

    assert sorted(find(tag="many")) == [str(each.task_id) for each in deferred]


def test_nobody_finds_no_tag_of_nobody() -> None:
    _nap(tags=["x"])

    assert not task_list(caller=AnonymousUser(), tag=["x"]).exists()
