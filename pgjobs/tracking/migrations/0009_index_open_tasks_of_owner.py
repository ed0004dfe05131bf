from django.db import migrations, models

INDEX = models.Index(
    fields=["owner"],
    name="tracking_task_open_of_owner",
    condition=models.Q(("end_status__isnull", True)),
)


class Migration(migrations.Migration):
    atomic = False  # CONCURRENTLY: the table is written to meanwhile

    dependencies = [("tracking", "0008_attempt_handed_back")]

    operations = [
        # An interrupted build leaves an invalid index behind.
        migrations.RunSQL(
            sql="DROP INDEX CONCURRENTLY IF EXISTS tracking_task_open_of_owner;",
            reverse_sql=migrations.RunSQL.noop,
        ),
        migrations.RunSQL(
            sql="""
            CREATE INDEX CONCURRENTLY IF NOT EXISTS tracking_task_open_of_owner
            ON tracking_task (owner_id) WHERE end_status IS NULL;
            """,
            reverse_sql="DROP INDEX CONCURRENTLY IF EXISTS tracking_task_open_of_owner;",
            state_operations=[migrations.AddIndex(model_name="task", index=INDEX)],
        ),
    ]
