"""What a page of the list costs among 100,000 tasks: what it shows, by indexes, in their order."""

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from explained import Plan

from benchmarks.ours import many_tasks
from pgjobs.api.http.pagination import DEFAULT_LIMIT
from pgjobs.tracking import finding
from pgjobs.tracking.selectors import task_list, task_walk

pytestmark = pytest.mark.django_db

COUNT = 100_000
ONE_PAGE = DEFAULT_LIMIT + 1  # and whether there is another
MOST_BUFFERS = 200
# Each that runs is looked up with its job and the events of that, and all of them are few.
MOST_BUFFERS_OF_RUNNING = 12 * many_tasks.RUNNING
# Each tagged task is a probe of the primary key, which has three levels by now, and of the table.
MOST_BUFFERS_BY_TAG = 4 * ONE_PAGE + 40
# Nothing fits, so that the walk leads to the end of the owner's index: a hundred tasks a buffer.
MOST_BUFFERS_IN_VAIN = COUNT // 100

OF_A_USER = str(UUID("cfcd2084-95d5-65ef-66e7-dff9f98764da"))
LARGE, SMALL, ALL = 1, 4, None  # owners of 40 and 10 %, and who may see all


def _ago(**parts: float) -> datetime:
    return datetime.now(UTC) - timedelta(**parts)


FILTERS: list[dict[str, Any]] = [
    {},
    {"status": "PENDING"},
    {"status": "DONE"},
    {"status": "FAILED"},
    {"status": "CANCELLED"},
    {"task_name": "get_user"},
    {"task_name": "import_users"},  # 2 %
    {"related_table": "user"},
    {"related_id": OF_A_USER},
    {"related_table": "user", "related_id": OF_A_USER},
    {"created_after": _ago(days=10)},
    {"created_after": _ago(hours=1)},
    {"created_before": _ago(days=10)},
    {"created_after": _ago(days=10), "created_before": _ago(days=9)},
    {"finished_after": _ago(days=10)},
    {"finished_after": _ago(hours=4)},  # the last few
    {"finished_before": _ago(days=10)},
    {"finished_after": _ago(days=10), "finished_before": _ago(days=9)},
    {"status": "PENDING", "task_name": "get_user"},
    {"status": "DONE", "task_name": "count_words"},
    {"status": "FAILED", "task_name": "create_user"},
    {"status": "FAILED", "related_table": "user"},
    {"status": "FAILED", "created_after": _ago(days=20)},
    {"status": "FAILED", "finished_after": _ago(days=20)},
    {"task_name": "create_user", "created_before": _ago(days=10)},
]
IN_VAIN = {"task_name": "no such task"}
FEW_OR_NONE: list[dict[str, Any]] = [
    IN_VAIN,
    {"related_table": "none"},
    {"status": "DONE", "task_name": "none"},
    {"status": "PENDING", "task_name": "none"},
    {"status": "FAILED", "task_name": "none"},
    {"status": "CANCELLED", "related_table": "none"},
    {"finished_after": _ago(days=-1)},
    {"finished_after": _ago(days=10), "finished_before": _ago(days=10)},
    {"related_id": OF_A_USER, "task_name": "none"},
    {"task_name": "none", "created_before": _ago(days=10)},
    {"tag": ["nightly"], "task_name": "none"},
    {"tag": ["nightly", "none"]},
]
LOOKED_AT = 500
SHARES = {LARGE: 0.35, SMALL: 0.08, ALL: 1.0}
BY_TAG: list[dict[str, Any]] = [
    {"tag": ["nightly"]},  # 5 %
    {"tag": ["import-7"]},  # one of 5,000
    {"tag": ["nightly", "import-7"]},
    {"tag": ["nightly"], "status": "DONE"},
]
WITHOUT_INDEX: dict[str, tuple[int | None, dict[str, Any], int]] = {
    "pgjobs_task_walk_owner": (SMALL, {"task_name": "import_users"}, MOST_BUFFERS),
    "pgjobs_task_related_id": (ALL, {"related_id": OF_A_USER}, MOST_BUFFERS),
    "pgjobs_task_not_done": (ALL, {"status": "CANCELLED"}, MOST_BUFFERS),
    "pgjobs_tag_walk": (SMALL, {"tag": ["import-7"]}, 40),
}


@pytest.fixture
def month(db: None) -> None:
    """100,000 tasks in place of all others, until the test's transaction is rolled back."""
    with connection.cursor() as cursor:
        many_tasks.fill(cursor, COUNT)


def test_a_page_costs_what_it_shows_whatever_it_is_asked_for(month: None) -> None:
    _check_pages(FILTERS, MOST_BUFFERS)
    _check_pages([{"status": "PROCESSING"}], MOST_BUFFERS_OF_RUNNING)
    _check_pages(BY_TAG, MOST_BUFFERS_BY_TAG)
    for owner in (LARGE, SMALL):
        for plan in _plans(owner, IN_VAIN):
            assert plan.buffers <= MOST_BUFFERS_IN_VAIN, (owner, plan)
            assert plan.removed_rows == 0, (owner, plan)

    # The twin, on the same tasks: without its index each of these costs more.
    for name in WITHOUT_INDEX:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP INDEX {name}")
    for name, (owner, filters, most) in WITHOUT_INDEX.items():
        assert max(plan.buffers for plan in _plans(owner, filters)) > most, name


def test_a_search_in_vain_looks_at_so_many_and_no_more(
    month: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finding, "MOST_COMPARED", LOOKED_AT)
    monkeypatch.setattr(finding, "MOST_COMPARED_OF_TAG", LOOKED_AT)
    for filters in FEW_OR_NONE:
        for owner in (LARGE, SMALL, ALL):
            for plan in _plans(owner, filters, is_bounded=True):
                about = (filters, owner, plan)
                if "tag" in filters:
                    # By their tags, or past them where that is less to read.
                    assert plan.buffers <= 4 * LOOKED_AT + 40, about
                else:
                    # To find where the look ends, the planner may walk past the rows of others.
                    assert plan.removed_rows <= LOOKED_AT / SHARES[owner], about
                    assert plan.sorted_rows <= ONE_PAGE, about

    # The twin: without an end of the look it is everything.
    assert max(plan.removed_rows for plan in _plans(ALL, IN_VAIN)) > COUNT - 1000


def _check_pages(asked: list[dict[str, Any]], most: int) -> None:
    for filters in asked:
        for owner in (LARGE, SMALL, ALL):
            for plan in _plans(owner, filters):
                about = (filters, owner, plan)
                assert plan.buffers <= most, about
                assert plan.sequential_scans == [], about
                # Where the planner expects less than a page, it may sort that.
                assert plan.sorted_rows <= ONE_PAGE, about


def _plans(owner: int | None, filters: dict[str, Any], *, is_bounded: bool = False) -> list[Plan]:
    """Explain all that is asked for the first page, and for the next one."""
    with CaptureQueriesContext(connection) as captured:
        rows = task_list(caller=_caller(owner), **filters)
        walk = task_walk(caller=_caller(owner), **filters) if is_bounded else None
        if walk and (end := walk.end(None, back=False)):
            rows = rows.filter(id__gte=end)
        page = list(rows[:ONE_PAGE])
        if len(page) == ONE_PAGE:
            list(rows.filter(id__lt=page[-1].pk)[:ONE_PAGE])
    return [_explain(query["sql"]) for query in captured.captured_queries]


def _caller(owner: int | None) -> Any:
    return SimpleNamespace(
        pk=owner and many_tasks.owner_id(owner), has_perm=lambda _name: owner is None
    )


def _explain(sql: str) -> Plan:
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}")
        ((found,),) = cursor.fetchall()
    return Plan((found if isinstance(found, list) else json.loads(found))[0]["Plan"])
