from django.db import migrations, models

INDEX = models.Index(
    fields=["id"],
    name="tracking_task_unfinished",
    condition=models.Q(("end_status__isnull", True)),
)


class Migration(migrations.Migration):
    atomic = False  # CONCURRENTLY: the table is written to meanwhile

    dependencies = [("tracking", "0002_attempt_kind")]

    operations = [
        # An interrupted build leaves an invalid index behind.
        migrations.RunSQL(
            sql="DROP INDEX CONCURRENTLY IF EXISTS tracking_task_unfinished;",
            reverse_sql=migrations.RunSQL.noop,
        ),
        migrations.RunSQL(
            sql="""
            CREATE INDEX CONCURRENTLY IF NOT EXISTS tracking_task_unfinished
            ON tracking_task (id) WHERE end_status IS NULL;
            """,
            reverse_sql="DROP INDEX CONCURRENTLY IF EXISTS tracking_task_unfinished;",
            state_operations=[migrations.AddIndex(model_name="task", index=INDEX)],
        ),
    ]
