from django.db import migrations

# The claim hops from lock to lock here: the first entry of each is the one job that may run.


class Migration(migrations.Migration):
    atomic = False  # CONCURRENTLY: the table is written to meanwhile

    dependencies = [("workers", "0003_index_due_jobs")]

    operations = [
        # An interrupted build leaves an invalid index behind.
        migrations.RunSQL(
            sql="DROP INDEX CONCURRENTLY IF EXISTS workers_job_lock_head;",
            reverse_sql=migrations.RunSQL.noop,
        ),
        migrations.RunSQL(
            sql="""
            CREATE INDEX CONCURRENTLY IF NOT EXISTS workers_job_lock_head
            ON procrastinate_jobs (lock, priority DESC, id)
            WHERE status = 'todo' AND lock IS NOT NULL;
            """,
            reverse_sql="DROP INDEX CONCURRENTLY IF EXISTS workers_job_lock_head;",
        ),
    ]
