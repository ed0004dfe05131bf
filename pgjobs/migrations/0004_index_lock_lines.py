from django.db import migrations

# The claim hops from lock to lock here: the first entry of each is the one job that may run. A job
# that is scheduled and never ran is not in it: see 0005.


class Migration(migrations.Migration):
    atomic = False  # CONCURRENTLY: the table is written to meanwhile

    dependencies = [("pgjobs", "0003_index_due_jobs")]

    operations = [
        # An interrupted build leaves an invalid index behind.
        migrations.RunSQL(
            sql="DROP INDEX CONCURRENTLY IF EXISTS pgjobs_job_lock_line;",
            reverse_sql=migrations.RunSQL.noop,
        ),
        migrations.RunSQL(
            sql="""
            CREATE INDEX CONCURRENTLY IF NOT EXISTS pgjobs_job_lock_line
            ON procrastinate_jobs (lock, priority DESC, id)
            WHERE status = 'todo' AND lock IS NOT NULL AND (scheduled_at IS NULL OR attempts > 0);
            """,
            reverse_sql="DROP INDEX CONCURRENTLY IF EXISTS pgjobs_job_lock_line;",
        ),
    ]
