from django.db import migrations

# The claim finds the jobs that fell due here without walking those that did not.


class Migration(migrations.Migration):
    atomic = False  # CONCURRENTLY: the table is written to meanwhile

    dependencies = [("pgjobs", "0002_index_ready_jobs")]

    operations = [
        # An interrupted build leaves an invalid index behind.
        migrations.RunSQL(
            sql="DROP INDEX CONCURRENTLY IF EXISTS pgjobs_job_due;",
            reverse_sql=migrations.RunSQL.noop,
        ),
        migrations.RunSQL(
            sql="""
            CREATE INDEX CONCURRENTLY IF NOT EXISTS pgjobs_job_due
            ON procrastinate_jobs (queue_name, priority, scheduled_at, id)
            WHERE status = 'todo' AND lock IS NULL AND scheduled_at IS NOT NULL;
            """,
            reverse_sql="DROP INDEX CONCURRENTLY IF EXISTS pgjobs_job_due;",
        ),
    ]
