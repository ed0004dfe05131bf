"""A table of Tasks as it looks after a month, in one statement a table."""

from datetime import UTC, datetime, timedelta
from typing import Any

from django.apps import apps

WAITING, RUNNING = 280, 20  # the newest ones

# Five owners have 40, 30, 15, 10 and 5 % of the tasks; their ids are the numbers 1 to 5. Of 1,000
# tasks 10 FAILED and 1 was CANCELLED. Each row draws numbers of its own by hashing its own.
_DRAWN = """
    SELECT
        n,
        now() - interval '30 days' * (1 - n::float / %(count)s) AS at,
        abs(hashint8(n)) %% 100 AS owner_draw,
        abs(hashint8(n + 1000000000)) %% 1000 AS end_draw,
        abs(hashint8(n + 2000000000)) %% 100 AS name_draw,
        abs(hashint8(n + 3000000000)) %% 100 AS tag_draw,
        n > %(count)s - %(waiting)s - %(running)s AS is_live,
        n > %(count)s - %(waiting)s AS waits
    FROM generate_series(1, %(count)s::bigint) AS n
"""

_JOBS = f"""
INSERT INTO procrastinate_jobs (id, queue_name, task_name, status, attempts, worker_id)
SELECT
    n, 'many', 'many',
    (CASE WHEN waits THEN 'todo' WHEN is_live THEN 'doing' WHEN end_draw < 10 THEN 'failed'
          WHEN end_draw = 10 THEN 'cancelled' ELSE 'succeeded' END)::procrastinate_job_status,
    CASE WHEN is_live THEN 0 ELSE 1 END, NULL
FROM ({_DRAWN}) AS drawn
"""  # noqa: S608 # no text from outside

_TASKS = f"""
INSERT INTO pgjobs_task (
    id, job_id, owner_id, task_name, queue_name, input_data, correlation_id, progress, attempts,
    related_table, related_id, operation, end_status, result, started_at, finished_at, created_at,
    updated_at
)
SELECT
    -- a UUIDv7 as ours are, of its time
    (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7'
     || substr(md5(n::text), 1, 3) || '8' || substr(md5(n::text), 4, 15))::uuid,
    n,
    lpad(CASE WHEN owner_draw < 40 THEN 1 WHEN owner_draw < 70 THEN 2 WHEN owner_draw < 85 THEN 3
              WHEN owner_draw < 95 THEN 4 ELSE 5 END::text, 32, '0')::owner_key,
    CASE WHEN name_draw < 40 THEN 'get_user' WHEN name_draw < 70 THEN 'create_user'
         WHEN name_draw < 90 THEN 'send_activation_email' WHEN name_draw < 98 THEN 'count_words'
         ELSE 'import_users' END,
    'many', '{{"username": "grace"}}', gen_random_uuid()::text, 0,
    CASE WHEN is_live THEN 0 ELSE 1 END,
    CASE WHEN name_draw < 70 THEN 'user' END,
    CASE WHEN name_draw < 70 THEN md5((n %% 2000)::text)::uuid::text END,
    CASE WHEN name_draw < 40 THEN 'READ' WHEN name_draw < 70 THEN 'CREATE' END,
    CASE WHEN is_live THEN NULL WHEN end_draw < 10 THEN 'FAILED'
         WHEN end_draw = 10 THEN 'CANCELLED' ELSE 'DONE' END,
    '{{"message": "Successfully created user grace"}}',
    CASE WHEN NOT is_live THEN at END,
    CASE WHEN NOT is_live THEN at + interval '1 s' END,
    at, at
FROM ({_DRAWN}) AS drawn
"""  # noqa: S608

_TAGS = f"""
INSERT INTO pgjobs_tag (task_id, name, owner_id)
SELECT task.id, tag, task.owner_id
FROM ({_DRAWN}) AS drawn
JOIN pgjobs_task AS task ON task.job_id = drawn.n
CROSS JOIN unnest(
    CASE WHEN tag_draw = 0 THEN ARRAY['nightly', 'import-' || n %% 50] ELSE ARRAY['nightly'] END
) AS tag
WHERE tag_draw < 5
"""  # noqa: S608

# Of the newest only: a page that looks for those of others looks in vain, as quickly.
_EVENTS = """
INSERT INTO procrastinate_events (job_id, type, at)
SELECT id, type::procrastinate_job_event_type, now()
FROM procrastinate_jobs, unnest(ARRAY['deferred', 'started']) AS type
WHERE id > %(count)s - 5000 AND (type = 'deferred' OR status <> 'todo')
"""

_TABLES = ("procrastinate_jobs", "procrastinate_events", "pgjobs_task", "pgjobs_tag")
_TABLES_THAT_POINT_HERE = "procrastinate_periodic_defers, pgjobs_attempt"


def owner_id(number: int) -> Any:
    """Return the id of the n-th owner, of the type that users of the project have."""
    return _owner_field().target_field.to_python(f"{number:032}")


def queries() -> dict[str, str]:
    """Return query strings of lists, by name."""
    now = datetime.now(UTC)
    day, tenth = ((now - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ") for days in (1, 10))
    ninth = (now - timedelta(days=9)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "all": "",
        "pending": "status=PENDING",
        "processing": "status=PROCESSING",
        "done": "status=DONE",
        "failed": "status=FAILED",
        "cancelled": "status=CANCELLED",
        "task_name": "task_name=get_user",
        "rare_name": "task_name=import_users",
        "no_such_name": "task_name=none",
        "tag": "tag=nightly",
        "rare_tag": "tag=import-7",
        "related_table": "related_table=user",
        "related_id": "related_id=cfcd2084-95d5-65ef-66e7-dff9f98764da",
        "created_after": f"created_after={day}",
        "created_before": f"created_before={tenth}",
        "created_between": f"created_after={tenth}&created_before={ninth}",
        "finished_after": f"finished_after={day}",
        "finished_before": f"finished_before={tenth}",
        "finished_between": f"finished_after={tenth}&finished_before={ninth}",
        "failed_name": "status=FAILED&task_name=create_user",
    }


def fill(cursor: Any, count: int) -> None:
    """Put so many Tasks in place of all others, newest last, and let the planner know of them."""
    parameters = {"count": count, "waiting": WAITING, "running": RUNNING}
    cursor.execute(f"TRUNCATE {', '.join(_TABLES)}, {_TABLES_THAT_POINT_HERE}")
    cursor.execute("SET session_replication_role = replica")  # no triggers
    key = _owner_field().db_type(cursor.db)
    for statement in (_JOBS, _TASKS.replace("owner_key", key), _TAGS, _EVENTS):
        cursor.execute(statement, parameters)
    cursor.execute("SET session_replication_role = origin")
    cursor.execute(f"ANALYZE {', '.join(_TABLES)}")


def _owner_field() -> Any:
    return apps.get_model("pgjobs", "task")._meta.get_field("owner")  # noqa: SLF001
