"""A visit to a fresh project whose jobs are in an entry of DATABASES of their own.

By `manage.py shell`, in three parts: `before`, `during` and `after` the time of a worker.
"""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from io import StringIO
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.core.asgi import get_asgi_application
from django.core.management import call_command
from django.db import connections, transaction
from django.test import Client, RequestFactory, override_settings
from procrastinate.contrib.django.models import ProcrastinateJob

from pgjobs import app, owned_by
from pgjobs.access.audit.models import Entry
from pgjobs.api.live.streaming import Streaming
from pgjobs.api.live.waiting import Waiting
from pgjobs.conf import conf
from pgjobs.observe.health import readyz
from pgjobs.testing import assert_deferred, run_jobs
from pgjobs.tracking.models import Attempt, Task
from pgjobs.upkeep import prune

PASSWORD = "a long password"
ALIAS = conf.JOBS_DATABASE_ALIAS
# Whether "default" is another database, or another entry of one; and where users are.
_said = vars(import_module(settings.SETTINGS_MODULE))
ARE_APART, USERS = bool(_said["ARE_APART"]), str(_said["USERS"])
Users: Any = get_user_model()
visiting: Any = import_module("visiting")
tasks: Any = import_module("orders.tasks")
orders: Any = import_module("orders.models").Order.objects


class UndoneError(Exception):
    """Undoes a transaction."""


@contextmanager
def undone(alias: str) -> Iterator[None]:
    try:
        with transaction.atomic(using=alias):
            yield
            raise UndoneError
    except UndoneError:
        return


def user(name: str = "ada") -> Any:
    return Users.objects.get(username=name)


# --- Before


def settle() -> None:
    said = StringIO()
    call_command("makemigrations", verbosity=0)
    call_command("check")
    call_command("check", databases=["default"], stderr=said)
    missing = f"Run: manage.py migrate --database={ALIAS}"
    assert (missing in said.getvalue()) == ARE_APART, said.getvalue()
    call_command("migrate", verbosity=0)
    assert (missing in readyz(RequestFactory().get("/")).content.decode()) == ARE_APART
    call_command("migrate", database=ALIAS, verbosity=0)
    with connections[ALIAS].cursor() as cursor:
        cursor.execute("CREATE TABLE deeds (name text)")
    for name in ("ada", "bob", "root"):
        Users.objects.create_user(name, password=PASSWORD)


def tables_are_where_they_belong() -> None:
    users = {"auth_user", "auth_permission", "knox_authtoken", "pgjobs_api_terms"}
    ours = {"procrastinate_jobs", "pgjobs_task", "pgjobs_entry", "pgjobs_api_key"}
    kept = {"default": {"orders_order"}, ALIAS: ours}
    kept[USERS] |= users
    for alias, tables in kept.items():
        found = set(connections[alias].introspection.table_names())
        assert found >= tables, tables - found
        if ARE_APART:
            assert not found & ({"orders_order"} | users | ours) - tables
    assert Permission.objects.filter(codename="change_task").count() == 1


def a_rollback_leaves_neither_task_nor_job() -> None:
    with undone(ALIAS):
        tasks.add.defer(left=1, right=1)
        tasks.add.defer_many([{"left": 1, "right": 2}, {"left": 1, "right": 3}])
        assert (Task.objects.count(), ProcrastinateJob.objects.count()) == (3, 3)
    assert (Task.objects.count(), ProcrastinateJob.objects.count()) == (0, 0)


def a_commit_leaves_both() -> None:
    with transaction.atomic(using=ALIAS):
        deferred = tasks.add.defer(left=2, right=3)
    assert Task.objects.get(pk=deferred.task_id).job_id == deferred.job_id
    assert Task.objects.using(ALIAS).count() == ProcrastinateJob.objects.count() == 1


def async_code_defers() -> None:
    async def defer() -> Any:
        return await tasks.add.configure(tags=["async"]).defer_async(left=4, right=5)

    deferred = asyncio.run(defer())
    assert Task.objects.get(pk=deferred.task_id).status == "PENDING"
    assert app.job_manager.list_jobs(id=deferred.job_id)


def tests_of_the_project_run_jobs() -> None:
    with undone(ALIAS), undone("default"):
        tasks.order.configure(queue="inline").defer(name="ball")
        assert_deferred(tasks.order, name="ball")
        (task,) = run_jobs(queues=["inline"])
        assert (task.status, orders.count()) == ("DONE", 1)
        tasks.order.configure(queue="inline").defer(name="")
        (task,) = run_jobs(queues=["inline"])
        assert (task.status, orders.count()) == ("FAILED", 1)
        with override_settings(JOBS_EAGER=True):
            assert Task.objects.get(pk=tasks.add.defer(left=1, right=1).task_id).status == "DONE"
    assert (orders.count(), Task.objects.count()) == (0, 2)


def the_api_serves_its_caller() -> None:
    stranger = visiting.Caller("")
    body = {"username": "ada", "password": PASSWORD, "name": "of a visit"}
    status, made = stranger.send("/api/tokens/", body)
    assert status == 201, made
    mine, others = visiting.Caller(made["token"]), visiting.caller(user("bob"))
    key = {"Idempotency-Key": "visit"}
    first, again = (mine.send("/api/add/", {"left": 6, "right": 7}, **key) for _ in range(2))
    assert first == again
    path = first[1]["status_endpoint"]
    assert mine.send(path)[1]["status"] == "PENDING"
    assert others.send(path)[0] == 404
    assert [row["id"] for row in mine.send("/api/tasks/")[1]["results"]] == [first[1]["task_id"]]
    steer = f"/api/tasks/{first[1]['task_id']}/"
    assert mine.send(f"{steer}cancel/", {})[0] == 200
    assert mine.send(f"{steer}retry/", {})[0] == 202
    acts = Entry.objects.filter(target=first[1]["task_id"]).order_by("id")
    assert [(act.action, act.actor) for act in acts] == [
        ("task_cancelled", user()),
        ("task_retried", user()),
    ]
    assert mine.delete(f"/api/tokens/{made['id']}/").status_code == 204
    assert mine.send("/api/tasks/")[0] == 401


def quotas_and_throttles_count() -> None:
    mine = visiting.caller(user("bob"))
    add = {"left": 1, "right": 1}
    with override_settings(JOBS_OPEN_TASKS_PER_USER=2):
        assert [mine.send("/api/add/", add)[0] for _ in range(3)] == [202, 202, 429]
    assert mine.send("/api/add/", add)[0] == 202
    with override_settings(JOBS_THROTTLE_USER_PER_MINUTE=3):
        assert [mine.send("/api/tasks/")[0] for _ in range(4)][-1] == 429


def failures_to_sign_in_count() -> None:
    wrong = {"username": "eve", "password": "wrong"}
    with override_settings(JOBS_THROTTLE_LOGIN_FAILURES=2):
        statuses = [visiting.Caller("").send("/api/tokens/", wrong)[0] for _ in range(3)]
    assert statuses == [401, 401, 429]


def acts_are_recorded_if_they_are_committed() -> None:
    bob, before = user("bob"), Entry.objects.count()
    with undone(USERS):
        bob.set_password("another long one")
        bob.save()
    assert Entry.objects.count() == before
    with transaction.atomic(using=USERS):
        bob.save()
        is_recorded = Entry.objects.count() > before
    entry = Entry.objects.latest("id")
    assert (entry.action, entry.target) == ("password_changed", str(bob.pk))
    # Together where both are, else once the act is committed.
    assert is_recorded == (USERS == ALIAS)


def pages_show_owners() -> None:
    root = user("root")
    root.is_staff = root.is_superuser = True
    root.save()
    page = Client()
    page.force_login(root)
    with owned_by(user().pk):
        task_id = tasks.add.defer(left=8, right=9).task_id
    entry = Entry.objects.filter(actor=user())[0]
    for path in (
        f"pgjobs/task/{task_id}/change/",
        "pgjobs/entry/",
        f"pgjobs/entry/{entry.pk}/change/",
        "knox/authtoken/",
    ):
        answer = page.get(f"/admin/{path}")
        assert answer.status_code == 200, (path, answer.status_code)
    assert ">ada<" in page.get("/admin/pgjobs/task/").content.decode()


def what_waits_ends_with_its_user() -> None:
    root = user("root")
    with owned_by(root.pk):
        first = tasks.add.configure(tags=["of root"]).defer(left=1, right=1).task_id
    root.is_active = False
    root.save()
    assert Task.objects.get(pk=first).status == "CANCELLED"
    with owned_by(root.pk):
        second = tasks.add.defer(left=1, right=1).task_id
    root.delete()
    assert Task.objects.get(pk=second).status == "CANCELLED"
    assert set(Task.objects.filter(pk__in=[first, second]).values_list("owner")) == {(None,)}


def leaves_work_for_a_worker() -> None:
    tasks.write_twice.defer(name="atomic", fails=False)
    tasks.write_twice.defer(name="undone", fails=True)
    with owned_by(user().pk, permission="pgjobs.view_task"):
        tasks.add.configure(tags=["lacks"]).defer(left=1, right=1)


# --- During


def a_request_waits_for_its_task() -> None:
    mine = visiting.caller(user())
    _, accepted = mine.send("/api/add/?delay=1", {"left": 20, "right": 22})
    token = mine.defaults["HTTP_AUTHORIZATION"]
    body, headers = asyncio.run(_waited(accepted["status_endpoint"], token))
    assert (body["status"], body["result"]["sum"]) == ("DONE", 42)
    assert headers[b"preference-applied"] == b"wait"


async def _waited(path: str, token: str) -> tuple[Any, dict[bytes, bytes]]:
    headers = {b"host": b"testserver", b"authorization": token.encode(), b"prefer": b"wait=30"}
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [*headers.items()],
    }
    talk: Any = import_module("asgiref.testing").ApplicationCommunicator
    asked = talk(Streaming(Waiting(get_asgi_application())), scope)
    await asked.send_input({"type": "http.request", "body": b"", "more_body": False})
    start = await asked.receive_output(timeout=30)
    body = await asked.receive_output(timeout=30)
    assert start["status"] == 200, (start, body)
    return json.loads(body["body"]), dict(start["headers"])


# --- After


def the_worker_did_its_work() -> None:
    done = Task.objects.filter(task_name="add", end_status="DONE")
    sums = {task.result["sum"] for task in done}
    assert sums >= {5, 9, 13, 42}, _failures()
    assert Task.objects.get(tags__name="lacks").error["code"] == "permission_denied"


def _failures() -> list[Any]:
    failed = Task.objects.filter(end_status="FAILED").values_list("task_name", "error")
    return [*failed, *Attempt.objects.values_list("traceback", flat=True)]


def atomic_tasks_commit_with_the_jobs() -> None:
    ends = {
        task.input_data["name"]: task.status
        for task in Task.objects.filter(tags=None)
        if task.task_name == "write_twice"
    }
    assert ends == {"atomic": "DONE", "undone": "FAILED"}, _failures()
    with connections[ALIAS].cursor() as cursor:
        cursor.execute("SELECT name FROM deeds ORDER BY name")
        assert cursor.fetchall() == [("atomic",)]
    # What goes elsewhere stays, whatever becomes of the job.
    assert set(orders.values_list("name", flat=True)) == {"atomic", "undone"}


def is_ready() -> None:
    assert readyz(RequestFactory().get("/")).status_code == 200


def is_pruned() -> None:
    with override_settings(JOBS_RETENTION_DAYS=0, JOBS_AUDIT_DAYS=0):
        pruned = prune(timestamp=0)
    assert pruned["pruned"] > 0
    assert pruned["pruned_entries"] > 0


PARTS: dict[str, list[Callable[[], None]]] = {
    "before": [
        settle,
        tables_are_where_they_belong,
        a_rollback_leaves_neither_task_nor_job,
        a_commit_leaves_both,
        async_code_defers,
        tests_of_the_project_run_jobs,
        the_api_serves_its_caller,
        quotas_and_throttles_count,
        failures_to_sign_in_count,
        acts_are_recorded_if_they_are_committed,
        pages_show_owners,
        what_waits_ends_with_its_user,
        leaves_work_for_a_worker,
    ],
    "during": [a_request_waits_for_its_task],
    "after": [
        the_worker_did_its_work,
        atomic_tasks_commit_with_the_jobs,
        is_ready,
        is_pruned,
    ],
}


def tell(part: str) -> None:
    visiting.tell(PARTS[part])
