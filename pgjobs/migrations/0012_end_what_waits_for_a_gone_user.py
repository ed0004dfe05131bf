from collections.abc import Iterator
from typing import Any, NamedTuple

from django.conf import settings
from django.core.exceptions import FieldDoesNotExist
from django.db import migrations, models, router

# What waits for a user ends with the user, whatever deactivates or deletes them: the ORM, an update
# of many rows, SQL. A receiver of Django's signals would see the first of these alone. On deletion
# Django would take the owner off the Tasks first, and nobody could tell whose they were: the
# trigger does both. A key of text may come again, of somebody else: so it leaves the Tags as well,
# and where it changes, both follow.
#
# Where users are in another database there is no table for a trigger: pgjobs/access/leaving.py then
# calls the functions for what the ORM deletes or deactivates.
#
# To shut somebody out must not depend on how much waits for them, or on who holds it: so many jobs are
# ended, those that are held are stepped over, and what is left is refused when it runs.
#
# Job before Task, as everywhere. The error of a Task that was cancelled needs no words here: without
# any, readers are given those of a cancel.

FUNCTIONS = """
CREATE FUNCTION pgjobs_end_what_waits_of(key anyelement) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    WITH clock AS MATERIALIZED (
        SELECT clock_timestamp() AS now
    ), held AS MATERIALIZED (
        SELECT job.id, job.attempts
        FROM procrastinate_jobs AS job
        WHERE job.id IN (
            SELECT job_id FROM pgjobs_task WHERE owner_id = key AND end_status IS NULL
        ) AND job.status::text = 'todo'
        ORDER BY job.id
        LIMIT 10000
        FOR NO KEY UPDATE SKIP LOCKED
    ), moved AS (
        UPDATE procrastinate_jobs AS job
        SET status = 'cancelled', abort_requested = false
        FROM held
        WHERE job.id = held.id
        RETURNING job.id
    )
    UPDATE pgjobs_task AS task
    SET end_status = 'CANCELLED', attempts = held.attempts, finished_at = clock.now,
        updated_at = clock.now
    FROM held, clock, moved
    WHERE task.job_id = held.id AND moved.id = held.id AND task.end_status IS NULL;
END;
$$;

CREATE FUNCTION pgjobs_give_tasks(former anyelement, present anyelement)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    WITH given AS (
        UPDATE pgjobs_task SET owner_id = present WHERE owner_id = former RETURNING id
    )
    UPDATE pgjobs_tag AS tag SET owner_id = present FROM given WHERE tag.task_id = given.id;
END;
$$;

CREATE FUNCTION pgjobs_leave_tasks(key anyelement) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pgjobs_end_what_waits_of(key);
    PERFORM FROM procrastinate_jobs
    WHERE id IN (SELECT job_id FROM pgjobs_task WHERE owner_id = key AND end_status IS NULL)
    ORDER BY id
    FOR NO KEY UPDATE;
    PERFORM pgjobs_give_tasks(key, NULL);
END;
$$;
"""

DROP_FUNCTIONS = """
DROP FUNCTION IF EXISTS pgjobs_leave_tasks(anyelement);
DROP FUNCTION IF EXISTS pgjobs_give_tasks(anyelement, anyelement);
DROP FUNCTION IF EXISTS pgjobs_end_what_waits_of(anyelement);
"""

CREATE = """
CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM {call};
    RETURN NULL;
END;
$$;

CREATE TRIGGER {name} AFTER {event} ON {table}
FOR EACH ROW {when} EXECUTE FUNCTION {name}();
"""

DROP = """
DROP TRIGGER IF EXISTS {name} ON {table};
DROP FUNCTION IF EXISTS {name}();
"""


class Trigger(NamedTuple):
    name: str
    event: str
    when: str
    call: str

    def create(self, names: dict[str, str]) -> str:
        parts = {part: text.format(**names) for part, text in self._asdict().items()}
        return CREATE.format(**parts, table=names["table"])

    def drop(self, names: dict[str, str]) -> str:
        return DROP.format(name=self.name, table=names["table"])


ON_DELETE = Trigger("pgjobs_end_what_waits", "DELETE", "", "pgjobs_leave_tasks(OLD.{key})")
ON_NEW_KEY = Trigger(
    "pgjobs_follow_key",
    "UPDATE OF {key}",
    "WHEN (OLD.{key} IS DISTINCT FROM NEW.{key})",
    "pgjobs_give_tasks(OLD.{key}, NEW.{key})",
)
ON_DEACTIVATION = Trigger(
    "pgjobs_end_what_waits_for_inactive",
    "UPDATE OF {is_active}",
    "WHEN (OLD.{is_active} AND NEW.{is_active} IS NOT TRUE)",
    "pgjobs_end_what_waits_of(OLD.{key})",
)


def end_with_the_user(apps: Any, schema_editor: Any) -> None:
    """Put the triggers on the project's table of users, whose names only now are known."""
    schema_editor.execute(FUNCTIONS)
    for trigger, names in _triggers(apps, schema_editor):
        schema_editor.execute(trigger.create(names))


def leave_what_waits(apps: Any, schema_editor: Any) -> None:
    for trigger, names in _triggers(apps, schema_editor):
        schema_editor.execute(trigger.drop(names))
    schema_editor.execute(DROP_FUNCTIONS)


def _triggers(apps: Any, schema_editor: Any) -> Iterator[tuple[Trigger, dict[str, str]]]:
    """Return what each table gets; nothing where users are in another database."""
    users = apps.get_model(settings.AUTH_USER_MODEL)
    if not router.allow_migrate_model(schema_editor.connection.alias, users):
        return
    names = _names(users, schema_editor)
    yield ON_DELETE, names
    yield ON_NEW_KEY, names
    if field := _is_active(users):
        is_active = schema_editor.quote_name(field.column)
        yield ON_DEACTIVATION, {**_names(field.model, schema_editor), "is_active": is_active}


def _is_active(users: Any) -> Any:
    """Return the column, which may be in a parent's table; None: this model has none of the kind."""
    try:
        field = users._meta.get_field("is_active")  # noqa: SLF001 # documented
    except FieldDoesNotExist:
        return None
    return field if isinstance(field, models.BooleanField) else None


def _names(model: Any, schema_editor: Any) -> dict[str, str]:
    meta = model._meta  # noqa: SLF001 # documented
    names = {"table": meta.db_table, "key": meta.pk.column}
    return {name: schema_editor.quote_name(value) for name, value in names.items()}


class Migration(migrations.Migration):
    dependencies = [
        ("pgjobs", "0011_keep_entries"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [migrations.RunPython(end_with_the_user, leave_what_waits)]
