from django.db import migrations

# Jobs with a lock that are scheduled and never ran, in the order in which they fall due: until then
# they hold up nobody of their lock.


class Migration(migrations.Migration):
    atomic = False  # CONCURRENTLY: the table is written to meanwhile

    dependencies = [("pgjobs", "0004_index_lock_lines")]

    operations = [
        # An interrupted build leaves an invalid index behind.
        migrations.RunSQL(
            sql="DROP INDEX CONCURRENTLY IF EXISTS pgjobs_job_lock_due;",
            reverse_sql=migrations.RunSQL.noop,
        ),
        migrations.RunSQL(
            sql="""
            CREATE INDEX CONCURRENTLY IF NOT EXISTS pgjobs_job_lock_due
            ON procrastinate_jobs (lock, scheduled_at, id)
            WHERE status = 'todo' AND lock IS NOT NULL AND scheduled_at IS NOT NULL AND attempts = 0;
            """,
            reverse_sql="DROP INDEX CONCURRENTLY IF EXISTS pgjobs_job_lock_due;",
        ),
    ]
