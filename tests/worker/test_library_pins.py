"""What the engine overrides or leans on in Procrastinate is what it was when ours was written.

A pin that fails says what changed and what of ours to read again beside it. When that is done, put
the new digest, which the message shows, in the place of the old one.
"""

import hashlib
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import connection
from procrastinate import App
from procrastinate.blueprints import Blueprint
from procrastinate.job_context import JobContext
from procrastinate.jobs import DeleteJobCondition, Job
from procrastinate.manager import JobManager, get_channel_for_queues
from procrastinate.periodic import PeriodicDeferrer
from procrastinate.tasks import Task
from procrastinate.worker import Worker

pytestmark = pytest.mark.django_db

WORKER = "pgjobs/worker/worker.py"
APP = "pgjobs/worker/app.py"
MANAGER = "pgjobs/worker/complete/manager.py"
WORK = "pgjobs/worker/run/work.py"
CLAIM = "pgjobs/worker/claim/sql/claim.sql and tests/worker/test_semantics.py"
COMPLETE = "pgjobs/worker/complete/sql/complete.sql"
REAPER = "pgjobs/worker/alive/reaper.py and its statements"
NOTIFY = "pgjobs/migrations/0007_notify_once_a_statement.py"
TRACKING = "pgjobs/tracking/states.py and its statements"


@dataclass(frozen=True)
class Pin:
    """A piece of the library and where ours depends on it."""

    digest: str
    read_again: str

    def check(self, name: str, text: str) -> None:
        """Fail if `text` is not what was pinned."""
        if (found := _digest(text)) != self.digest:
            pytest.fail(
                f"{name} is not what it was ({found}, pinned {self.digest})."
                f" Read again: {self.read_again}"
            )


CODE: dict[str, tuple[Callable[..., Any] | type, Pin]] = {
    "Worker.__init__": (Worker.__init__, Pin("22bda175b18a", WORKER)),
    "Worker.run": (Worker.run, Pin("c50231aa4c33", WORKER)),
    "Worker._run_loop": (Worker._run_loop, Pin("c7397eb9d13f", WORKER)),
    "Worker.stop": (Worker.stop, Pin("6dcc4fd03f84", WORKER)),
    "Worker._shutdown": (Worker._shutdown, Pin("016bf77a42d0", WORKER)),
    "Worker._periodic_deferrer": (Worker._periodic_deferrer, Pin("3fc2c392f0e2", WORKER)),
    "Worker._start_side_tasks": (Worker._start_side_tasks, Pin("c291722a3f44", WORKER)),
    "Worker._process_job": (Worker._process_job, Pin("e191f000147a", WORKER)),
    "Worker._persist_job_status": (Worker._persist_job_status, Pin("28e948c1b630", WORKER)),
    "Worker._handle_notification": (Worker._handle_notification, Pin("6665d9404ea6", WORKER)),
    "Worker._fetch_and_process_jobs": (Worker._fetch_and_process_jobs, Pin("db939b4332d6", WORKER)),
    "App.__init__": (App.__init__, Pin("e8756ca4302e", APP)),
    "App._worker": (App._worker, Pin("3bf1c379be94", APP)),
    "App.run_worker_async": (App.run_worker_async, Pin("78f607de2c95", APP)),
    "App.run_worker": (App.run_worker, Pin("eccabcf98b30", APP)),
    "App.perform_import_paths": (App.perform_import_paths, Pin("cda3c854ef26", APP)),
    "App.replace_connector": (App.replace_connector, Pin("2c8fde6d4520", APP)),
    "App.open_async": (App.open_async, Pin("a441675abe3a", APP)),
    "Blueprint.task": (Blueprint.task, Pin("ee5f2c540fa7", APP)),
    "Blueprint.periodic": (Blueprint.periodic, Pin("ae8f4470a00d", APP)),
    "JobManager.__init__": (JobManager.__init__, Pin("4100c9025986", MANAGER)),
    "JobManager.prune_stalled_workers": (
        JobManager.prune_stalled_workers,
        Pin("14f9039d2683", MANAGER),
    ),
    "JobManager.cancel_job_by_id_async": (
        JobManager.cancel_job_by_id_async,
        Pin("869777029a85", MANAGER),
    ),
    "JobManager.retry_job_by_id_async": (
        JobManager.retry_job_by_id_async,
        Pin("f84f34a1d0e2", MANAGER),
    ),
    "JobManager.listen_for_jobs": (JobManager.listen_for_jobs, Pin("a238b135cd7e", MANAGER)),
    "JobManager.register_worker": (JobManager.register_worker, Pin("db8cb463c4cc", MANAGER)),
    "JobManager.unregister_worker": (JobManager.unregister_worker, Pin("f8b276e4279c", MANAGER)),
    "JobManager.update_heartbeat": (JobManager.update_heartbeat, Pin("a767935dd2c1", MANAGER)),
    "PeriodicDeferrer.worker": (PeriodicDeferrer.worker, Pin("3bda511b41b0", WORKER)),
    "PeriodicDeferrer.defer_jobs": (PeriodicDeferrer.defer_jobs, Pin("10969256364d", WORKER)),
    "PeriodicDeferrer.get_previous_tasks": (
        PeriodicDeferrer.get_previous_tasks,
        Pin("f60aa1456a0c", WORKER),
    ),
    "Task.__call__": (Task.__call__, Pin("4beb41d55ca6", WORK)),
    "Task.get_retry_exception": (Task.get_retry_exception, Pin("5ee23d6a111e", WORK)),
    "get_channel_for_queues": (get_channel_for_queues, Pin("70c6f1b0c20e", WORKER)),
    "DeleteJobCondition": (DeleteJobCondition, Pin("051ea530bce5", WORKER)),
    "JobContext": (JobContext, Pin("04503213efd6", WORK)),
    "Job": (Job, Pin("0d035ab1f064", WORK)),
}

FUNCTIONS = {
    "procrastinate_trigger_function_status_events_insert_v1": Pin("66bf02a7afcd", CLAIM),
    "procrastinate_trigger_function_status_events_update_v1": Pin("56b5d71b4b9c", TRACKING),
    "procrastinate_trigger_function_scheduled_events_v1": Pin("dd3b22ae0737", TRACKING),
    "procrastinate_trigger_abort_requested_events_procedure_v1": Pin("e583137a50f6", TRACKING),
    "procrastinate_unlink_periodic_defers_v1": Pin("ca319144ea73", COMPLETE),
    "procrastinate_notify_queue_job_inserted_v1": Pin("0069d0f022ed", NOTIFY),
    "procrastinate_notify_queue_abort_job_v1": Pin("eaf7c2845c4a", WORKER),
    "procrastinate_fetch_job_v2": Pin("cbe7f9ee553d", CLAIM),
    "procrastinate_cancel_job_v1": Pin("55507462b0fd", COMPLETE),
    "procrastinate_retry_job_v2": Pin("45005144dc61", COMPLETE),
    "procrastinate_finish_job_v1": Pin("eccdd63c9cfb", COMPLETE),
    "procrastinate_defer_periodic_job_v2": Pin("7f62e18a918e", WORKER),
    "procrastinate_defer_jobs_v1": Pin("940797c1c9dc", TRACKING),
    "procrastinate_prune_stalled_workers_v1": Pin("e64802d6c0ec", REAPER),
    "procrastinate_unregister_worker_v1": Pin("636fc9ccfe8f", REAPER),
}

TRIGGERS = {
    "procrastinate_jobs_notify_queue_job_inserted_v1": Pin("54ba189d3473", NOTIFY),
    "procrastinate_jobs_notify_queue_job_aborted_v1": Pin("ea153c498e37", WORKER),
    "procrastinate_trigger_status_events_update_v1": Pin("e2d6d1a3d595", TRACKING),
    "procrastinate_trigger_status_events_insert_v1": Pin("0e15605e66e6", TRACKING),
    "procrastinate_trigger_scheduled_events_v1": Pin("8438bfaf4d72", TRACKING),
    "procrastinate_trigger_abort_requested_events_v1": Pin("45fb0dc29726", TRACKING),
    "procrastinate_trigger_delete_jobs_v1": Pin("cb50b8ca9dd7", COMPLETE),
}

CONSTRAINTS = {
    "check_not_todo_abort_requested": Pin("282593496b1a", COMPLETE),
    "procrastinate_jobs_worker_id_fkey": Pin("71138a2b8115", REAPER),
    "procrastinate_events_job_id_fkey": Pin("5dbd012d13f6", COMPLETE),
}

INDEXES = {
    "procrastinate_jobs_pkey": Pin("eb521c1a36bb", COMPLETE),
    "procrastinate_jobs_lock_idx_v1": Pin("276d5f98f64c", CLAIM),
    "procrastinate_jobs_queueing_lock_idx_v1": Pin("a93946e3d6db", COMPLETE),
    "procrastinate_events_job_id_fkey_v1": Pin("1138195d6312", CLAIM),
    "idx_procrastinate_jobs_worker_not_null": Pin("20364710dc28", REAPER),
}


@pytest.mark.parametrize("name", CODE)
def test_the_librarys_code_is_what_the_engine_was_written_against(name: str) -> None:
    piece, pin = CODE[name]

    pin.check(name, inspect.getsource(piece))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_librarys_functions_in_the_database_are_what_they_were(name: str) -> None:
    FUNCTIONS[name].check(name, _function(name))


@pytest.mark.parametrize("name", TRIGGERS)
def test_the_librarys_triggers_are_what_they_were(name: str) -> None:
    TRIGGERS[name].check(name, _trigger(name))


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_the_librarys_constraints_are_what_they_were(name: str) -> None:
    CONSTRAINTS[name].check(name, _constraint(name))


@pytest.mark.parametrize("name", INDEXES)
def test_the_librarys_indexes_are_what_they_were(name: str) -> None:
    INDEXES[name].check(name, _index(name))


def test_the_triggers_of_the_jobs_are_all_pinned_or_ours() -> None:
    assert _names("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgrelid = {}") == {
        *TRIGGERS, "pgjobs_notify_inserted", "pgjobs_notify_returned", "pgjobs_write_events",
    }  # fmt: skip


def test_the_unique_indexes_of_the_jobs_are_all_pinned() -> None:
    """One more would be another way for a claim or a completion to be refused."""
    unique = _names(
        "SELECT indexrelid::regclass::text FROM pg_index WHERE indisunique AND indrelid = {}"
    )
    assert unique <= set(INDEXES)


def test_the_columns_of_a_job_are_those_that_the_engine_knows() -> None:
    assert _names(
        "SELECT attname FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped AND attrelid = {}"
    ) == {
        "id", "queue_name", "task_name", "priority", "lock", "queueing_lock", "args", "status",
        "scheduled_at", "attempts", "abort_requested", "worker_id",
    }  # fmt: skip


def test_a_mutated_copy_of_a_method_fails_its_pin() -> None:
    source = inspect.getsource(Worker.stop)
    pin = CODE["Worker.stop"][1]

    with pytest.raises(pytest.fail.Exception, match=r"Read again: pgjobs/worker/worker\.py"):
        pin.check("Worker.stop", source.replace("self._stop_event.set()", "pass"))


def test_a_mutated_copy_of_a_function_in_the_database_fails_its_pin() -> None:
    name = "procrastinate_trigger_function_status_events_update_v1"
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_functiondef(%s::regproc)", [name])
        cursor.execute(cursor.fetchone()[0].replace("'started'", "'deferred'"))

    with pytest.raises(pytest.fail.Exception, match=f"{name} is not what it was"):
        FUNCTIONS[name].check(name, _function(name))


def test_the_way_a_definition_is_written_does_not_matter() -> None:
    older = "CREATE UNIQUE INDEX a ON public.jobs USING btree (lock) WHERE (status = 'doing'::s)"
    newer = "CREATE UNIQUE INDEX a ON jobs\n USING btree (lock) WHERE status = 'doing'::s"

    assert _digest(older) == _digest(newer)
    assert _digest(older) != _digest(older.replace("doing", "todo"))


def _digest(text: str) -> str:
    """Digest what does not depend on line breaks, brackets, or who prints it."""
    plain = re.sub(r"\bpublic\.|[\s()]|::charactervarying|::text", "", text)
    return hashlib.sha256(plain.encode()).hexdigest()[:12]


def _function(name: str) -> str:
    return _one(
        "SELECT pg_get_function_identity_arguments(oid) || pg_get_function_result(oid) || prosrc"
        " FROM pg_proc WHERE proname = %s",
        name,
    )


def _trigger(name: str) -> str:
    return _one(
        "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal AND tgname = %s", name
    )


def _constraint(name: str) -> str:
    return _one("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = %s", name)


def _index(name: str) -> str:
    return _one("SELECT pg_get_indexdef(%s::regclass)", name)


def _one(sql: str, name: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute(sql, [name])
        rows = cursor.fetchall()
    assert len(rows) == 1, f"{name} is there {len(rows)} times"
    return str(rows[0][0])


def _names(sql: str) -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute(sql.format("'procrastinate_jobs'::regclass"))
        return {name for (name,) in cursor.fetchall()}
