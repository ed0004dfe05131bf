from django.db import migrations

# The claim reads ready jobs of a queue in order from here, and nothing else.


class Migration(migrations.Migration):
    atomic = False  # CONCURRENTLY: the table is written to meanwhile

    dependencies = [("pgjobs", "0001_create_tables")]

    operations = [
        # An interrupted build leaves an invalid index behind.
        migrations.RunSQL(
            sql="DROP INDEX CONCURRENTLY IF EXISTS pgjobs_job_ready;",
            reverse_sql=migrations.RunSQL.noop,
        ),
        migrations.RunSQL(
            sql="""
            CREATE INDEX CONCURRENTLY IF NOT EXISTS pgjobs_job_ready
            ON procrastinate_jobs (queue_name, priority DESC, id)
            WHERE status = 'todo' AND lock IS NULL AND scheduled_at IS NULL;
            """,
            reverse_sql="DROP INDEX CONCURRENTLY IF EXISTS pgjobs_job_ready;",
        ),
    ]
