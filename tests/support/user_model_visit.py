"""A visit to a fresh project whose user model is its own: everything there that touches an owner.

By `manage.py shell`, in two parts: `before` defers, asks and refuses; `after` a worker has worked
it looks at what came of it, and lets users go. Each prints what failed, by step, as JSON.
"""

import asyncio
from collections.abc import Callable
from importlib import import_module
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.core.management import call_command
from django.test import Client, override_settings

from pgjobs import owned_by
from pgjobs.access.audit.models import Entry
from pgjobs.api.keys.models import Key
from pgjobs.tracking.models import Tag, Task
from pgjobs.upkeep import prune

PASSWORD = "a long password"
visiting: Any = import_module("visiting")
Caller, caller = visiting.Caller, visiting.caller
USERS: Any = get_user_model()
tasks = import_module("orders.tasks")
# Of the app of the model: (name to sign in by, what create_user takes), for each of three users.
PEOPLE: Any = import_module(USERS.__module__).PEOPLE
POWERS = {"is_staff", "is_superuser", "has_perm"}


def ada() -> Any:
    return USERS._default_manager.get(**{USERS.USERNAME_FIELD: PEOPLE[0]["name"]})


def bob() -> Any:
    return USERS._default_manager.get(**{USERS.USERNAME_FIELD: PEOPLE[1]["name"]})


def eve() -> Any:
    return USERS._default_manager.get(**{USERS.USERNAME_FIELD: PEOPLE[2]["name"]})


def settle() -> None:
    call_command("makemigrations", verbosity=0)
    call_command("check")
    call_command("migrate", verbosity=0)
    for person in PEOPLE:
        USERS.objects.create_user(**person["fields"], password=PASSWORD)


def owners_of_code() -> None:
    """Code that names an owner: by the key, or by its text; one, many, and from async code."""
    with owned_by(ada().pk):
        one = tasks.whose.defer(number=1)
        many = tasks.whose.configure(tags=["many"]).defer_many([{"number": 2}, {"number": 3}])
        late = asyncio.run(_deferred_async())
    ids = [one.task_id, *(each.task_id for each in many), late.task_id]
    assert set(Task.objects.filter(pk__in=ids).values_list("owner", flat=True)) == {ada().pk}
    assert [tag.owner_id for tag in Tag.objects.all()] == [ada().pk, ada().pk]
    with owned_by(str(bob().pk)):
        by_text = tasks.whose.defer(number=5)
    assert Task.objects.get(pk=by_text.task_id).owner == bob()


async def _deferred_async() -> Any:
    return await tasks.whose.defer_async(number=4)


def tokens_of_users() -> None:
    stranger = Caller("")
    body = {"username": ada().get_username(), "password": PASSWORD, "name": "of a visit"}
    status, made = stranger.send("/api/tokens/", body)
    assert status == 201, made
    mine = Caller(made["token"])
    status, listed = mine.send("/api/tokens/")
    assert (status, [one["name"] for one in listed["results"]]) == (200, ["of a visit"])
    assert stranger.send("/api/tokens/", {**body, "password": "wrong"})[0] == 401
    assert mine.delete(f"/api/tokens/{made['id']}/").status_code == 204
    assert mine.send("/api/tasks/")[0] == 401


def tasks_are_their_owners() -> None:
    mine, others = caller(ada()), caller(bob())
    status, listed = mine.send("/api/tasks/")
    assert (status, len(listed["results"])) == (200, 4)
    assert len(mine.send("/api/tasks/?tag=many")[1]["results"]) == 2
    assert others.send("/api/tasks/?tag=many")[1]["results"] == []
    task_id = listed["results"][0]["id"]
    status, detail = mine.send(f"/api/tasks/{task_id}/")
    assert (status, detail["job_id"]) == (200, None), detail
    assert mine.send(f"/api/tasks/{task_id}/status/")[0] == 200
    assert mine.send(f"/api/tasks/{task_id}/attempts/")[0] == 200
    for path in ("", "status/", "attempts/", "events/"):
        assert others.send(f"/api/tasks/{task_id}/{path}")[0] == 404
    assert others.send(f"/api/tasks/{task_id}/cancel/", {})[0] == 404


def steering_is_recorded() -> None:
    mine = caller(ada())
    _, accepted = mine.send("/api/whose/", {"number": 6})
    path = f"/api/tasks/{accepted['task_id']}/"
    assert mine.send(f"{path}cancel/", {})[0] == 200
    assert mine.send(f"{path}retry/", {})[0] == 202
    acts = Entry.objects.filter(target=accepted["task_id"]).order_by("id")
    assert [(act.action, act.actor_id) for act in acts] == [
        ("task_cancelled", ada().pk),
        ("task_retried", ada().pk),
    ]
    assert {act.actor for act in acts} == {ada()}


def keys_are_their_callers() -> None:
    mine, others = caller(ada()), caller(bob())
    key = {"Idempotency-Key": "visit"}
    first, again = (mine.send("/api/whose/", {"number": 7}, **key) for _ in range(2))
    assert first == again
    assert first[0] == 202
    assert others.send("/api/whose/", {"number": 7}, **key)[1]["task_id"] != first[1]["task_id"]
    assert Key.objects.count() == 2


def quotas_count_one_user() -> None:
    mine = caller(eve())
    with override_settings(JOBS_OPEN_TASKS_PER_USER=2):
        statuses = [mine.send("/api/whose/", {"number": n})[0] for n in range(3)]
    assert statuses == [202, 202, 429]
    # Far from the limit, which is counted otherwise.
    assert mine.send("/api/whose/", {"number": 8})[0] == 202


def throttles_count_one_user() -> None:
    with override_settings(JOBS_THROTTLE_USER_PER_MINUTE=3):
        statuses = [caller(eve()).send("/api/tasks/")[0] for _ in range(4)]
    assert statuses[-1] == 429
    assert caller(ada()).send("/api/tasks/")[0] == 200


def permissions_are_asked_for() -> None:
    mine = caller(ada())
    status, answer = mine.send("/api/guarded/", {"number": 9})
    assert status == 403, answer
    assert mine.send("/api/tasks/bulk/", {"task_name": "whose", "items": [{"number": 1}]})[0] == 403
    assert mine.send("/api/whose/?priority=99", {"number": 1})[0] == 400
    if POWERS - set(dir(USERS)):
        return
    # By the model of the table, where the project's is a proxy of it.
    root = USERS._meta.concrete_model._base_manager.get(pk=eve().pk)
    root.is_staff = root.is_superuser = True
    root.save()
    assert caller(root).send("/api/guarded/", {"number": 9})[0] == 202
    everybodys = caller(root).send("/api/tasks/?limit=100")[1]["results"]
    assert len(everybodys) == Task.objects.count()
    powers = Entry.objects.filter(action="power_changed")
    assert powers.get().details["is_superuser"] is True


def pages_show_owners() -> None:
    if POWERS - set(dir(USERS)):
        return
    page = Client()
    page.force_login(eve())
    task = Task.objects.filter(owner=ada())[0]
    entry = Entry.objects.filter(actor=ada())[0]
    for path in (
        "pgjobs/task/",
        f"pgjobs/task/{task.pk}/change/",
        "pgjobs/entry/",
        f"pgjobs/entry/{entry.pk}/change/",
        "knox/authtoken/",
        "knox/authtoken/?q=visit",
        "knox/authtoken/add/",
    ):
        answer = page.get(f"/admin/{path}")
        assert answer.status_code == 200, (path, answer.status_code)
    assert str(ada()) in page.get("/admin/pgjobs/task/").content.decode()
    clerk = bob()
    clerk.is_staff = True
    clerk.save()
    clerk.user_permissions.add(Permission.objects.get(codename="view_authtoken"))
    page.force_login(bob())
    tokens = page.get("/admin/knox/authtoken/")
    assert tokens.status_code == 200
    assert str(eve()) not in tokens.content.decode()


def waits_for_a_worker() -> None:
    """Two that are asked about when they run: of one who may, of one who is gone by then."""
    caller(ada()).send("/api/whose/?tag=asked", {"number": 10})
    assert caller(bob()).send("/api/whose/?tag=asked", {"number": 11})[0] == 202
    with owned_by(bob().pk, permission="pgjobs.view_task"):
        tasks.whose.configure(tags=["lacks"]).defer(number=12)


def ran_for_their_owners() -> None:
    done = {task.owner_id: task for task in Task.objects.filter(tags__name="asked")}
    for user in (ada(), bob()):
        assert done[user.pk].status == "DONE", done[user.pk].error
        assert done[user.pk].result == {"owner": str(user.pk), "is_known": True}
    (lacks,) = Task.objects.filter(tags__name="lacks")
    assert lacks.error["code"] == "permission_denied"


def ends_with_the_user() -> None:
    with owned_by(bob().pk):
        waits = tasks.whose.configure(tags=["of bob"]).defer(number=13).task_id
    gone = bob()
    kept = {"pk": gone.pk, USERS.USERNAME_FIELD: gone.get_username()}
    gone.delete()
    task = Task.objects.get(pk=waits)
    assert (task.status, task.owner_id) == ("CANCELLED", None)
    if isinstance(kept["pk"], str):  # such a key may come again, of somebody else
        USERS.objects.create_user(**PEOPLE[1]["fields"], password=PASSWORD)
        assert bob().pk == kept["pk"]
        for path in ("/api/tasks/", "/api/tasks/?tag=of%20bob"):
            assert caller(bob()).send(path)[1]["results"] == []


def ends_with_a_deactivation() -> None:
    if "is_active" not in {field.name for field in USERS._meta.get_fields()}:
        return
    with owned_by(eve().pk):
        waits = tasks.whose.defer(number=14).task_id
    USERS._base_manager.filter(pk=eve().pk).update(is_active=False)
    assert Task.objects.get(pk=waits).status == "CANCELLED"


def follows_a_new_key() -> None:
    if not isinstance(ada().pk, str) or USERS._meta.parents:
        return
    with owned_by(ada().pk):
        kept = tasks.whose.configure(tags=["kept"]).defer(number=15).task_id
    user = ada()
    user.auth_token_set.all().delete()
    new: Any = "new@example.org"  # keys of our own users are none
    USERS._base_manager.filter(pk=user.pk).update(**{USERS._meta.pk.name: new})
    assert Task.objects.get(pk=kept).owner_id == new
    assert Tag.objects.get(task=kept).owner_id == new


def is_pruned() -> None:
    with override_settings(JOBS_RETENTION_DAYS=0, JOBS_AUDIT_DAYS=0):
        pruned = prune(timestamp=0)
    assert pruned["pruned"] > 0
    assert pruned["pruned_entries"] > 0


PARTS: dict[str, list[Callable[[], None]]] = {
    "before": [
        settle,
        owners_of_code,
        tokens_of_users,
        tasks_are_their_owners,
        steering_is_recorded,
        keys_are_their_callers,
        quotas_count_one_user,
        throttles_count_one_user,
        permissions_are_asked_for,
        pages_show_owners,
        waits_for_a_worker,
    ],
    "after": [
        ran_for_their_owners,
        ends_with_the_user,
        ends_with_a_deactivation,
        follows_a_new_key,
        is_pruned,
    ],
}


def tell(part: str) -> None:
    visiting.tell(PARTS[part])
