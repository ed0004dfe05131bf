from django.db import migrations

# Postgres refuses the COMMIT of whoever notifies when its queue of notifications is full, which any
# session of any database brings about that listens and sits in a transaction. Jobs are found by the
# poll as well, so close to the end we notify no more, and jobs are deferred and retried all the
# same. The bodies are otherwise those of 0006.

INSERTED = """
CREATE OR REPLACE FUNCTION workers_notify_inserted() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    payload CONSTANT text := '{"type": "job_inserted", "job_id": 0}';
    queue text;
BEGIN%(guard)s
    FOR queue IN SELECT DISTINCT queue_name FROM inserted WHERE status = 'todo' LOOP
        PERFORM pg_notify('procrastinate_queue_v1#' || queue, payload);
        PERFORM pg_notify('procrastinate_any_queue_v1', payload);
    END LOOP;
    RETURN NULL;
END;
$$;
"""

RETURNED = """
CREATE OR REPLACE FUNCTION workers_notify_returned() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    payload CONSTANT text := '{"type": "job_inserted", "job_id": 0}';
BEGIN%(guard)s
    PERFORM pg_notify('procrastinate_queue_v1#' || NEW.queue_name, payload);
    PERFORM pg_notify('procrastinate_any_queue_v1', payload);
    RETURN NULL;
END;
$$;
"""

# With 8 GB of queue, as by default, some 800 MB are left to who else notifies.
GUARD = """
    IF pg_notification_queue_usage() > 0.9 THEN
        RETURN NULL;
    END IF;"""


def functions(guard: str) -> str:
    return INSERTED % {"guard": guard} + RETURNED % {"guard": guard}


class Migration(migrations.Migration):
    dependencies = [("workers", "0007_write_events_once_a_statement")]

    operations = [migrations.RunSQL(sql=functions(GUARD), reverse_sql=functions(""))]
