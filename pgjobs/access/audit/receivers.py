"""What Django tells of signing in, of power and of users who leave, recorded and followed."""

from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.contrib.auth.signals import user_logged_in, user_login_failed
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_save

from pgjobs.access.audit.models import Action
from pgjobs.access.audit.services import record
from pgjobs.access.leaving import gone, shut_out

# Those of them that are columns of the project's users.
WATCHED = {
    "is_staff": Action.POWER_CHANGED,
    "is_superuser": Action.POWER_CHANGED,
    "is_active": Action.ACTIVITY_CHANGED,
    "password": Action.PASSWORD_CHANGED,
}
_BEFORE = "_audited_before"
_CHANGES = {"post_add": "added", "post_remove": "removed", "pre_clear": "cleared"}


def connect() -> None:
    """Connect the receivers; to do so again changes nothing."""
    user_model = get_user_model()
    user_logged_in.connect(_signed_in, dispatch_uid="audit")
    user_login_failed.connect(_sign_in_failed, dispatch_uid="audit")
    for kind in _kinds_of(user_model):
        pre_save.connect(_user_about_to_change, sender=kind, dispatch_uid="audit")
        post_save.connect(_user_saved, sender=kind, dispatch_uid="audit")
        # Of a model with a parent Django deletes both, and tells of both.
        if kind._meta.concrete_model is user_model._meta.concrete_model:  # noqa: SLF001 # documented
            post_delete.connect(_user_deleted, sender=kind, dispatch_uid="audit")
    powers = ((user_model, "groups"), (user_model, "user_permissions"), (Group, "permissions"))
    for owner, field in powers:
        if through := getattr(getattr(owner, field, None), "through", None):
            m2m_changed.connect(_power_changed, sender=through, dispatch_uid=f"audit {field}")


def _signed_in(user: Any, **_signal: Any) -> None:
    record(Action.SIGNED_IN, user.pk, actor=user)


def _sign_in_failed(credentials: dict[str, Any], **_signal: Any) -> None:
    name = credentials.get("username") or credentials.get(get_user_model().USERNAME_FIELD)
    record(Action.SIGN_IN_FAILED, name or "")


def _user_about_to_change(instance: Any, update_fields: Any, using: str, **_signal: Any) -> None:
    columns = [
        name
        for name in _watched_of(type(instance))
        if update_fields is None or name in update_fields
    ]
    if not columns:
        return
    users = type(instance)._base_manager  # noqa: SLF001 # a manager of the project may hide some
    known = users.using(using).filter(pk=instance.pk).values(*columns).first()
    # Of a new user only power tells something.
    new = {name: False for name in columns if WATCHED[name] == Action.POWER_CHANGED}
    setattr(instance, _BEFORE, known or new)


def _user_saved(instance: Any, using: str, **_signal: Any) -> None:
    before = instance.__dict__.pop(_BEFORE, None)
    if before is None:
        return
    changed = {name: now for name, was in before.items() if (now := getattr(instance, name)) != was}
    for action in dict.fromkeys(WATCHED[name] for name in changed):
        # As JSON whatever its column is: a project's `is_active` may be a date.
        of_it = {name: bool(now) for name, now in changed.items() if WATCHED[name] == action}
        of_it.pop("password", None)  # a hash
        record(action, instance.pk, using=using, **of_it)
    if not changed.get("is_active", True):
        shut_out(instance.pk, using=using)


def _user_deleted(instance: Any, using: str, **_signal: Any) -> None:
    record(Action.USER_DELETED, instance.pk, using=using, username=instance.get_username())
    gone(instance.pk, using=using)


def _kinds_of(user_model: Any) -> list[Any]:
    """Return each model whose rows are users: a signal names the very one that was saved."""
    concrete = user_model._meta.concrete_model  # noqa: SLF001 # documented
    return [
        model
        for model in apps.get_models()
        if model._meta.concrete_model is concrete or issubclass(model, concrete)  # noqa: SLF001
    ]


def _watched_of(user_model: Any) -> list[str]:
    columns = {field.name for field in user_model._meta.concrete_fields}  # noqa: SLF001 # documented
    return [name for name in WATCHED if name in columns]


def _power_changed(
    instance: Any,
    action: str,
    reverse: bool,
    model: Any,
    pk_set: set[Any] | None,
    using: str,
    **_signal: Any,
) -> None:
    if action not in _CHANGES or not (pk_set or action == "pre_clear"):
        return
    details = {"of": model.__name__, "keys": sorted(map(str, pk_set or ())), "reverse": reverse}
    record(Action.POWER_CHANGED, instance.pk, using=using, change=_CHANGES[action], **details)
