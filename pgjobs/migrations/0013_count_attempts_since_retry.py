from django.db import migrations

# How often a job failed, crashed or was handed back since it was last sent back by hand: claim.sql asks
# for the retry policy, complete.sql for the bounds of the engine. Sent back, a job starts counting
# anew: by the Attempt `retried` of our own, or by the event of Procrastinate's tools, which leave none.
#
# In SQL and STABLE, so that it reads what the statement that calls it reads. Its text is no dependency
# of the tables it names: a migration of Procrastinate's may change them.

FUNCTION = """
CREATE FUNCTION pgjobs_attempts_since_retry(of_task uuid, of_job bigint, of_kind text)
RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT count(*) FROM pgjobs_attempt AS attempt
    WHERE attempt.task_id = of_task AND attempt.kind = of_kind
      AND attempt.number > coalesce((
          SELECT max(number) FROM pgjobs_attempt WHERE task_id = of_task AND kind = 'retried'
      ), 0)
      AND attempt.finished_at > coalesce((
          SELECT max(event.at) FROM procrastinate_events AS event
          WHERE event.job_id = of_job AND event.type = 'retried'
      ), '-infinity')
$$;
"""


class Migration(migrations.Migration):
    dependencies = [("pgjobs", "0012_end_what_waits_for_a_gone_user")]

    operations = [
        migrations.RunSQL(
            sql=FUNCTION,
            reverse_sql="DROP FUNCTION pgjobs_attempts_since_retry(uuid, bigint, text);",
        )
    ]
