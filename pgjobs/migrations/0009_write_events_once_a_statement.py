from django.db import migrations

# The library writes the events of a change of status by a trigger for each row, which is two fifths
# of what the database does for a job that runs. The same events for all rows of a statement at once
# take a third of that. Both need what a row was before: a join of the two transition tables, which
# hold the rows of one statement in memory; a claim's connection forbids the joins that are right
# for that, so the function says its own.
#
# Which event a change makes is the library's rule (its function
# procrastinate_trigger_function_status_events_update_v1), to the letter. The same statement tells those
# that follow a Task (0008).

CREATE_FUNCTION = """
CREATE OR REPLACE FUNCTION pgjobs_write_events() RETURNS trigger LANGUAGE plpgsql
SET enable_hashjoin = on SET enable_nestloop = off
AS $$
BEGIN
    INSERT INTO procrastinate_events (job_id, type)
    SELECT job_id, type::procrastinate_job_event_type
    FROM (
        SELECT
            after.id AS job_id,
            CASE before.status::text || ' ' || after.status::text
                WHEN 'todo doing' THEN 'started'
                WHEN 'doing todo' THEN 'deferred_for_retry'
                WHEN 'doing failed' THEN 'failed'
                WHEN 'doing succeeded' THEN 'succeeded'
                WHEN 'doing aborted' THEN 'aborted'
                WHEN 'todo cancelled' THEN 'cancelled'
                WHEN 'todo failed' THEN 'cancelled'
                WHEN 'todo succeeded' THEN 'cancelled'
                WHEN 'failed todo' THEN 'retried'
            END AS type
        FROM after
        JOIN before USING (id)
        WHERE before.status <> after.status
    ) AS change
    WHERE type IS NOT NULL;
    -- A retry of what was cancelled makes no event here.
    IF FOUND OR EXISTS (SELECT FROM after WHERE status = 'todo') THEN
        PERFORM pgjobs_tell_followers();
    END IF;
    RETURN NULL;
END;
$$;
"""

# A transition table is not allowed with a list of columns, hence AFTER UPDATE of any.
CREATE_TRIGGER = """
CREATE OR REPLACE TRIGGER pgjobs_write_events
    AFTER UPDATE ON procrastinate_jobs REFERENCING OLD TABLE AS before NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION pgjobs_write_events();
"""


class Migration(migrations.Migration):
    dependencies = [("pgjobs", "0008_tell_followers")]

    operations = [
        migrations.RunSQL(
            sql=CREATE_FUNCTION, reverse_sql="DROP FUNCTION IF EXISTS pgjobs_write_events();"
        ),
        migrations.RunSQL(
            sql=CREATE_TRIGGER,
            reverse_sql="DROP TRIGGER IF EXISTS pgjobs_write_events ON procrastinate_jobs;",
        ),
        # Disabled, not dropped: a later version of the library may want to drop it itself.
        migrations.RunSQL(
            sql="""
            ALTER TABLE procrastinate_jobs
            DISABLE TRIGGER procrastinate_trigger_status_events_update_v1;
            """,
            reverse_sql="""
            ALTER TABLE procrastinate_jobs
            ENABLE TRIGGER procrastinate_trigger_status_events_update_v1;
            """,
        ),
    ]
