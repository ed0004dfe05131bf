from django.db import migrations

# A worker's row is deleted when it ends, and the foreign key then looks for its jobs: without this
# index through the whole table, since Procrastinate's own index on worker_id holds running jobs only.


class Migration(migrations.Migration):
    atomic = False  # CONCURRENTLY: the table is written to meanwhile

    dependencies = [("pgjobs", "0005_index_due_of_locks")]

    operations = [
        # An interrupted build leaves an invalid index behind.
        migrations.RunSQL(
            sql="DROP INDEX CONCURRENTLY IF EXISTS pgjobs_job_of_worker;",
            reverse_sql=migrations.RunSQL.noop,
        ),
        migrations.RunSQL(
            sql="""
            CREATE INDEX CONCURRENTLY IF NOT EXISTS pgjobs_job_of_worker
            ON procrastinate_jobs (worker_id)
            WHERE worker_id IS NOT NULL;
            """,
            reverse_sql="DROP INDEX CONCURRENTLY IF EXISTS pgjobs_job_of_worker;",
        ),
    ]
