from contextlib import suppress
from typing import Any

from django.conf import settings
from django.core.exceptions import FieldDoesNotExist
from django.db import migrations

# What waits for a user ends with the user, whatever deactivates or deletes them: the ORM, an update
# of many rows, SQL. A receiver of Django's signals would see the first of these alone. On deletion
# Django would take the owner off the Tasks first, and nobody could tell whose they were: the
# trigger does both.
#
# To shut somebody out must not depend on how much waits for them, or on who holds it: so many jobs are
# ended, those that are held are stepped over, and what is left is refused when it runs.
#
# Job before Task, as everywhere. The error of a Task that was cancelled needs no words here: without
# any, readers are given those of a cancel.

FUNCTION = """
CREATE FUNCTION pgjobs_end_what_waits() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    WITH clock AS MATERIALIZED (
        SELECT clock_timestamp() AS now
    ), held AS MATERIALIZED (
        SELECT job.id, job.attempts
        FROM procrastinate_jobs AS job
        WHERE job.id IN (
            SELECT job_id FROM pgjobs_task WHERE owner_id = OLD.{key} AND end_status IS NULL
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

    IF TG_OP = 'DELETE' THEN
        PERFORM FROM procrastinate_jobs
        WHERE id IN (
            SELECT job_id FROM pgjobs_task WHERE owner_id = OLD.{key} AND end_status IS NULL
        )
        ORDER BY id
        FOR NO KEY UPDATE;
        UPDATE pgjobs_task SET owner_id = NULL WHERE owner_id = OLD.{key};
    END IF;
    RETURN NULL;
END;
$$;
"""

ON_DELETE = """
CREATE TRIGGER pgjobs_end_what_waits AFTER DELETE ON {table}
FOR EACH ROW EXECUTE FUNCTION pgjobs_end_what_waits();
"""

ON_DEACTIVATION = """
CREATE TRIGGER pgjobs_end_what_waits_for_inactive AFTER UPDATE OF {is_active} ON {table}
FOR EACH ROW WHEN (OLD.{is_active} AND NOT NEW.{is_active})
EXECUTE FUNCTION pgjobs_end_what_waits();
"""

DROP = """
DROP TRIGGER IF EXISTS pgjobs_end_what_waits ON {table};
DROP TRIGGER IF EXISTS pgjobs_end_what_waits_for_inactive ON {table};
DROP FUNCTION IF EXISTS pgjobs_end_what_waits();
"""


def end_with_the_user(apps: Any, schema_editor: Any) -> None:
    """Put the triggers on the project's table of users, whose names only now are known."""
    user_model = apps.get_model(settings.AUTH_USER_MODEL)
    names = _names(user_model, schema_editor)
    schema_editor.execute(FUNCTION.format(**names))
    schema_editor.execute(ON_DELETE.format(**names))
    if "is_active" in names:
        schema_editor.execute(ON_DEACTIVATION.format(**names))


def leave_what_waits(apps: Any, schema_editor: Any) -> None:
    user_model = apps.get_model(settings.AUTH_USER_MODEL)
    schema_editor.execute(DROP.format(**_names(user_model, schema_editor)))


def _names(user_model: Any, schema_editor: Any) -> dict[str, str]:
    meta = user_model._meta  # noqa: SLF001 # its documented name
    names = {"table": meta.db_table, "key": meta.pk.column}
    with suppress(FieldDoesNotExist):  # not every user model can deactivate
        names["is_active"] = meta.get_field("is_active").column
    return {name: schema_editor.quote_name(value) for name, value in names.items()}


class Migration(migrations.Migration):
    dependencies = [
        ("pgjobs", "0011_keep_entries"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [migrations.RunPython(end_with_the_user, leave_what_waits)]
