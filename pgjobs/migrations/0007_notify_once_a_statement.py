from django.db import migrations

# Procrastinate notifies twice for each row, with the job's id, so that nothing is merged. A worker
# only needs to know that there is something: one constant notification for each queue of a
# statement, which Postgres merges further within a transaction. The channels and the form are
# Procrastinate's, whose plain workers understand it.
#
# Postgres refuses the COMMIT of a session that notifies when its queue of notifications is full, which
# any session of any database brings about that listens and sits in a transaction. Jobs are found by the
# poll as well, so close to the end nothing is notified, and jobs are deferred and retried all the same.

CREATE_FUNCTIONS = """
CREATE OR REPLACE FUNCTION pgjobs_notify_inserted() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    payload CONSTANT text := '{"type": "job_inserted", "job_id": 0}';
    queue text;
BEGIN
    -- With 8 GB of queue, as by default, some 800 MB are left to others that notify.
    IF pg_notification_queue_usage() > 0.9 THEN
        RETURN NULL;
    END IF;
    FOR queue IN SELECT DISTINCT queue_name FROM inserted WHERE status = 'todo' LOOP
        PERFORM pg_notify('procrastinate_queue_v1#' || queue, payload);
        PERFORM pg_notify('procrastinate_any_queue_v1', payload);
    END LOOP;
    RETURN NULL;
END;
$$;

CREATE OR REPLACE FUNCTION pgjobs_notify_returned() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    payload CONSTANT text := '{"type": "job_inserted", "job_id": 0}';
BEGIN
    -- With 8 GB of queue, as by default, some 800 MB are left to others that notify.
    IF pg_notification_queue_usage() > 0.9 THEN
        RETURN NULL;
    END IF;
    PERFORM pg_notify('procrastinate_queue_v1#' || NEW.queue_name, payload);
    PERFORM pg_notify('procrastinate_any_queue_v1', payload);
    RETURN NULL;
END;
$$;
"""

DROP_FUNCTIONS = """
DROP FUNCTION IF EXISTS pgjobs_notify_inserted();
DROP FUNCTION IF EXISTS pgjobs_notify_returned();
"""

# A transition table is not allowed for several events or a list of columns, hence two triggers.
CREATE_TRIGGERS = """
CREATE OR REPLACE TRIGGER pgjobs_notify_inserted
    AFTER INSERT ON procrastinate_jobs REFERENCING NEW TABLE AS inserted
    FOR EACH STATEMENT EXECUTE FUNCTION pgjobs_notify_inserted();

CREATE OR REPLACE TRIGGER pgjobs_notify_returned
    AFTER UPDATE OF status ON procrastinate_jobs
    FOR EACH ROW WHEN (old.status <> 'todo' AND new.status = 'todo')
    EXECUTE FUNCTION pgjobs_notify_returned();
"""

DROP_TRIGGERS = """
DROP TRIGGER IF EXISTS pgjobs_notify_inserted ON procrastinate_jobs;
DROP TRIGGER IF EXISTS pgjobs_notify_returned ON procrastinate_jobs;
"""


class Migration(migrations.Migration):
    dependencies = [("pgjobs", "0006_index_jobs_of_workers")]

    operations = [
        migrations.RunSQL(sql=CREATE_FUNCTIONS, reverse_sql=DROP_FUNCTIONS),
        migrations.RunSQL(sql=CREATE_TRIGGERS, reverse_sql=DROP_TRIGGERS),
        # Disabled, not dropped: a later version of the library may want to drop it itself.
        migrations.RunSQL(
            sql="""
            ALTER TABLE procrastinate_jobs
            DISABLE TRIGGER procrastinate_jobs_notify_queue_job_inserted_v1;
            """,
            reverse_sql="""
            ALTER TABLE procrastinate_jobs
            ENABLE TRIGGER procrastinate_jobs_notify_queue_job_inserted_v1;
            """,
        ),
    ]
