"""A permission counts when the act takes place: whatever way the job comes to its run."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import atomic_samples
import pytest
from asgiref.sync import sync_to_async
from atomic_samples import deeds
from django.contrib.auth.models import Group, Permission
from django.db import OperationalError, connection, transaction
from django.urls import include, path
from django.utils import timezone
from procrastinate import PsycopgConnector
from procrastinate.contrib.django.models import ProcrastinateJob
from procrastinate.contrib.django.utils import connector_params
from rest_framework.permissions import AllowAny, BasePermission
from rest_framework.test import APIClient
from rest_framework.views import APIView

from pgjobs.api.bulk.apis import TaskBulkApi
from pgjobs.api.door.door import deferring
from pgjobs.contract.context import Snooze
from pgjobs.defer.bridge import owned_by
from pgjobs.tracking.models import Task
from pgjobs.tracking.selectors import task_error
from pgjobs.tracking.services import task_retry
from pgjobs.worker.errors import PermissionDeniedError

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls(__name__)]

type ClientOf = Callable[[Any], APIClient]

PERMISSION = "sample.add_parcel"
KINDS = (atomic_samples.act, atomic_samples.act_plainly, atomic_samples.act_async)
# In the whole matrix; `make test` tries the plain one in each cell, and all three in a few.
LONG = {"act": pytest.mark.long, "act_async": pytest.mark.long}
each_kind = pytest.mark.parametrize(
    "spec", [pytest.param(kind, id=kind.name, marks=LONG.get(kind.name, ())) for kind in KINDS]
)


def _door(spec: Any, **options: Any) -> Any:
    post = deferring(spec, message="Task created to act", permission=PERMISSION, **options)
    api: Any = type("DoorApi", (APIView,), {"post": post})
    return api.as_view()


class ActiveApi(APIView):
    post = deferring(atomic_samples.act_plainly, message="Task created to act")


class OpenApi(APIView):
    permission_classes = (AllowAny,)
    post = deferring(atomic_samples.act_plainly, message="Task created to act")


class _Anybody(BasePermission):
    def has_permission(self, _request: Any, _view: Any) -> bool:
        return True


class OpenByMethodApi(APIView):
    post = deferring(atomic_samples.act_plainly, message="Task created to act")

    def get_permissions(self) -> list[Any]:
        return [_Anybody()]


urlpatterns = [
    path("api/", include("pgjobs.api.urls")),
    path("bulk/", TaskBulkApi.as_view()),
    *(path(f"{spec.name}/", _door(spec, bulk=True)) for spec in KINDS),
    path("active/", ActiveApi.as_view()),
    path("open/", OpenApi.as_view()),
    path("open-by-method/", OpenByMethodApi.as_view()),
]


@pytest.fixture
def acts() -> list[str]:
    """The acts that took place."""
    return []


@pytest.fixture
def work(acts: list[str], transactional_db: None) -> Iterator[Callable[[], None]]:
    """Work, as often as is asked, until no job is ready; what is due later is due now."""
    app = atomic_samples.app
    connector = PsycopgConnector(kwargs=connector_params(), min_size=1, max_size=4)
    deeds.clear()
    deeds["act"] = lambda context: acts.append(str(context.task_id))

    async def act(context: Any) -> None:
        acts.append(str(context.task_id))

    deeds["act_async"] = act

    async def run() -> None:
        async with app.open_async():
            await app.run_worker_async(
                wait=False, install_signal_handlers=False, listen_notify=False
            )

    def work_through() -> None:
        ProcrastinateJob.objects.filter(status="todo").update(scheduled_at=None)
        asyncio.run(run())

    with app.replace_connector(connector):
        yield work_through


@pytest.fixture
def member(user: Any) -> Any:
    """A user who holds the permission by a group."""
    group = Group.objects.create(name="may act")
    group.permissions.add(Permission.objects.get(codename="add_parcel"))
    user.groups.add(group)
    return type(user).objects.get(pk=user.pk)


@pytest.fixture
def holder(request: pytest.FixtureRequest, loss: str) -> Any:
    """Whoever is to lose the permission: who is demoted was a superuser until then."""
    return request.getfixturevalue("admin" if loss == "demoted" else "member")


def _revoke(user: Any) -> None:
    user.groups.clear()


def _deactivate(user: Any) -> None:
    type(user).objects.filter(pk=user.pk).update(is_active=False)


def _delete(user: Any) -> None:
    user.delete()


def _delete_by_sql(user: Any) -> None:
    user.groups.clear()
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM knox_authtoken")
        cursor.execute(f"DELETE FROM {user._meta.db_table} WHERE id = %s", [user.pk])  # noqa: S608


def _demote(user: Any) -> None:
    type(user).objects.filter(pk=user.pk).update(is_superuser=False, is_staff=False)


LOSSES = {
    "revoked": _revoke,
    "deactivated": _deactivate,
    "deleted": _delete,
    "deleted by SQL": _delete_by_sql,
    "demoted": _demote,
}
# Of these nothing waits any more.
GONE = ("deactivated", "deleted", "deleted by SQL")


def _deed(spec: Any, name: str = "act") -> str:
    return f"{name}_async" if spec is atomic_samples.act_async else name


def _post(client: APIClient, spec: Any, name: str = "act", query: str = "") -> UUID:
    answer = client.post(f"/{spec.name}/{query}", {"deed": _deed(spec, name)}, format="json")
    assert answer.status_code == 202, answer.content
    return UUID(answer.json()["task_id"])


def _later(client: APIClient, spec: Any) -> UUID:
    return _post(client, spec, query="?delay=3600")


def _at_a_time(client: APIClient, spec: Any) -> UUID:
    return _post(client, spec, query=f"?run_at={_in_days(30)}")


def _in_days(days: int) -> str:
    return (timezone.now() + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _in_bulk(client: APIClient, spec: Any) -> UUID:
    body = {"task_name": spec.name, "items": [{"deed": _deed(spec)}] * 3}
    answer = client.post("/bulk/", body, format="json")
    assert answer.status_code == 202, answer.content
    return UUID(answer.json()["task_ids"][0])


WAYS: dict[str, Callable[[APIClient, Any], UUID]] = {
    "delay": _later,
    "run_at": _at_a_time,
    "bulk": _in_bulk,
    "at once": _post,
}


@each_kind
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("loss", LOSSES)
def test_a_job_that_waits_does_not_run_for_an_owner_who_may_not_any_more(
    holder: Any, client_of: ClientOf, work: Callable[[], None], acts: list[str],
    spec: Any, way: str, loss: str,
) -> None:  # fmt: skip
    WAYS[way](client_of(holder), spec)

    LOSSES[loss](holder)
    work()

    assert acts == []
    expected = ("CANCELLED", "cancelled") if loss in GONE else ("FAILED", "permission_denied")
    ends = {(task.status, (task_error(task) or {})["code"]) for task in Task.objects.all()}
    assert ends == {expected}


def _fail_once(context: Any) -> None:
    if context.attempt == 1:
        raise OperationalError("once more")


def _snooze_once(context: Any) -> None:
    if context.attempt == 1:
        raise Snooze(seconds=3600)


@each_kind
@pytest.mark.parametrize("back", [_fail_once, _snooze_once], ids=["retry by policy", "snooze"])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_job_that_comes_back_does_not_run_for_an_owner_who_may_not_any_more(
    holder: Any, client_of: ClientOf, work: Callable[[], None], acts: list[str],
    spec: Any, back: Callable[[Any], None], loss: str,
) -> None:  # fmt: skip
    def deed(context: Any) -> None:
        acts.append("began")
        _elsewhere(LOSSES[loss], holder)  # while it runs, and whatever becomes of the run
        back(context)

    deeds["act"], deeds["act_async"] = deed, sync_to_async(deed)

    task_id = _post(client_of(holder), spec)
    work()
    work()

    assert acts == ["began"]
    task = Task.objects.get(pk=task_id)
    assert (task.status, task.error["code"]) == ("FAILED", "permission_denied")


def _elsewhere(change: Callable[[Any], None], user: Any) -> None:
    def make() -> None:
        try:
            change(user)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as thread:
        thread.submit(make).result()


@each_kind
@pytest.mark.parametrize("loss", LOSSES)
def test_a_job_that_is_retried_by_hand_does_not_run_for_an_owner_who_may_not_any_more(
    holder: Any, django_user_model: Any, client_of: ClientOf, work: Callable[[], None],
    acts: list[str], spec: Any, loss: str,
) -> None:  # fmt: skip
    operator = django_user_model.objects.create_superuser("operator", "o@example.org", "pw")
    owner = client_of(holder)
    task_id = _post(owner, spec)
    assert owner.post(f"/api/tasks/{task_id}/cancel/").status_code == 200

    LOSSES[loss](holder)

    refused = owner.post(f"/api/tasks/{task_id}/retry/").status_code
    assert refused == (401 if loss in GONE else 403)
    assert client_of(operator).post(f"/api/tasks/{task_id}/retry/").status_code == 202
    work()
    assert acts == []
    assert Task.objects.get(pk=task_id).error["code"] == "permission_denied"


def test_to_steer_everybodys_tasks_does_not_allow_to_repeat_what_one_may_not_do(
    member: Any, django_user_model: Any, allow: Callable[[Any, str], Any], client_of: ClientOf,
    acts: list[str], work: Callable[[], None],
) -> None:  # fmt: skip
    operator = django_user_model.objects.create_user("operator", "o@example.org", "pw")
    for permission in ("pgjobs.view_task", "pgjobs.change_task"):
        operator = allow(operator, permission)
    task_id = _post(client_of(member), atomic_samples.act)
    retry = f"/api/tasks/{task_id}/retry/"

    assert client_of(operator).post(f"/api/tasks/{task_id}/cancel/").status_code == 200
    assert client_of(operator).post(retry).status_code == 403
    assert client_of(allow(operator, PERMISSION)).post(retry).status_code == 202

    work()
    assert acts == [str(task_id)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda spec: str(spec.name))
def test_an_owner_who_still_may_is_served(
    member: Any, client_of: ClientOf, work: Callable[[], None], acts: list[str], kind: Any
) -> None:
    task_id = _post(client_of(member), kind, query="?delay=3600")

    work()

    assert acts == [str(task_id)]


def test_a_door_without_a_permission_asks_for_an_active_owner(
    user: Any, client_of: ClientOf, work: Callable[[], None], acts: list[str]
) -> None:
    client = client_of(user)
    answers = [client.post("/active/", {"deed": "act"}, format="json") for _ in range(2)]
    client.post(f"/api/tasks/{answers[0].json()['task_id']}/cancel/")
    work()
    assert len(acts) == 1

    _deactivate(user)
    with transaction.atomic():
        task_retry(task_id=UUID(answers[0].json()["task_id"]))
    work()

    assert len(acts) == 1
    assert Task.objects.get(pk=answers[0].json()["task_id"]).error["code"] == "permission_denied"


def test_nobody_is_asked_for_what_code_defers(
    user: Any, work: Callable[[], None], acts: list[str]
) -> None:
    # As sign-up does: the activation mail belongs to a user who is not active yet.
    _deactivate(user)
    with owned_by(user.pk):
        deferred = atomic_samples.act_plainly.defer(deed="act")

    work()

    assert acts == [str(deferred.task_id)]


def test_what_a_run_defers_is_asked_for_by_nobody(
    member: Any, client_of: ClientOf, work: Callable[[], None], acts: list[str]
) -> None:
    def deed(_context: Any) -> None:
        atomic_samples.act_plainly.defer(deed="act")
        _revoke(member)

    deeds["parent"] = deed
    _post(client_of(member), atomic_samples.act_plainly, "parent")

    work()

    assert len(acts) == 1


def test_eager_mode_asks_as_well(
    member: Any, acts: list[str], settings: Any, work: Callable[[], None]
) -> None:
    settings.JOBS_EAGER = True
    settings.JOBS_WORKER_APP = "atomic_samples.app"
    with owned_by(member.pk, permission=PERMISSION):
        atomic_samples.act.defer(deed="act")
    _revoke(member)

    with owned_by(member.pk, permission=PERMISSION), pytest.raises(PermissionDeniedError):
        atomic_samples.act.defer(deed="act")

    assert len(acts) == 1


@pytest.mark.parametrize("kind", KINDS, ids=lambda spec: str(spec.name))
def test_a_database_that_cannot_tell_spends_nothing(
    member: Any, client_of: ClientOf, work: Callable[[], None], acts: list[str],
    kind: Any, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def away(*_args: Any) -> bool:
        raise OperationalError("gone")

    task_id = _post(client_of(member), kind)
    with monkeypatch.context() as patch:
        patch.setattr("pgjobs.worker.run.work.still_may", away)
        work()
    task = Task.objects.get(pk=task_id)
    assert (task.status, acts, task.failed_attempts.count()) == ("PENDING", [], 0)

    work()

    assert acts == [str(task_id)]


@pytest.mark.parametrize("change", [_deactivate, _delete, _delete_by_sql])
def test_only_what_waits_for_a_user_who_goes_is_cancelled(
    member: Any, admin: Any, change: Callable[[Any], None], work: Callable[[], None]
) -> None:
    with owned_by(member.pk):
        theirs = [atomic_samples.act.defer(deed="act") for _ in range(3)]
        later = atomic_samples.act.configure(schedule_in={"days": 300}).defer(deed="act")
    with owned_by(admin.pk):
        others = atomic_samples.act.defer(deed="act")
    _finish(theirs[0].job_id)

    change(member)

    statuses = {task.pk: task.status for task in Task.objects.all()}
    assert statuses == {
        theirs[0].task_id: "DONE",
        theirs[1].task_id: "CANCELLED",
        theirs[2].task_id: "CANCELLED",
        later.task_id: "CANCELLED",
        others.task_id: "PENDING",
    }
    owners = set(Task.objects.exclude(pk=others.task_id).values_list("owner_id", flat=True))
    assert owners == ({member.pk} if change is _deactivate else {None})


LISTS = ("/api/tasks/", "/api/tasks/?tag=theirs")


@pytest.mark.parametrize("change", [_delete, _delete_by_sql])
def test_a_key_that_comes_again_leads_to_nothing_of_whose_it_was(
    member: Any, client_of: ClientOf, change: Callable[[Any], None]
) -> None:
    with owned_by(member.pk):
        atomic_samples.act.configure(tags=["theirs"]).defer(deed="act")
    change(member)

    another = type(member).objects.create_user("another", "another@example.org", id=member.pk)

    for listed in LISTS:
        assert client_of(another).get(listed).json()["results"] == []


def test_tasks_follow_a_key_that_changes(user: Any, client_of: ClientOf) -> None:
    with owned_by(user.pk):
        task_id = atomic_samples.act.configure(tags=["theirs"]).defer(deed="act").task_id

    type(user).objects.filter(pk=user.pk).update(id=uuid4())

    client = client_of(type(user).objects.get(username=user.username))
    for listed in LISTS:
        assert [row["id"] for row in client.get(listed).json()["results"]] == [str(task_id)]


def _finish(job_id: int) -> None:
    now = timezone.now()
    ProcrastinateJob.objects.filter(pk=job_id).update(status="doing")
    ProcrastinateJob.objects.filter(pk=job_id).update(status="succeeded")
    Task.objects.filter(job_id=job_id).update(end_status="DONE", finished_at=now)


def test_to_change_a_user_who_is_not_active_cancels_nothing(user: Any) -> None:
    _deactivate(user)
    user.refresh_from_db()
    with owned_by(user.pk):
        mail = atomic_samples.act.defer(deed="act")

    user.first_name = "Olga"
    user.save()

    assert Task.objects.get(pk=mail.task_id).status == "PENDING"


@pytest.mark.parametrize(
    ("where", "status"),
    [("/active/", 401), ("/act/", 401), ("/open/", 202), ("/open-by-method/", 202)],
)
def test_a_door_is_closed_to_strangers_unless_its_view_says_otherwise(
    where: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As where a project's DEFAULT_PERMISSION_CLASSES let everybody in.
    monkeypatch.setattr(APIView, "permission_classes", [AllowAny])

    answer = APIClient().post(where, {"deed": "act"}, format="json")

    assert answer.status_code == status, answer.content
    assert Task.objects.count() == (status == 202)
