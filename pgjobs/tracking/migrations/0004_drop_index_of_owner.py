import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

# Django makes an index for each foreign key. This one's column begins tracking_task_owner_id, and
# each end of a job wrote to both.


class Migration(migrations.Migration):
    atomic = False  # CONCURRENTLY: the table is written to meanwhile

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
        ("tracking", "0003_index_unfinished_tasks"),
    ]

    operations = [
        migrations.RunSQL(
            sql="DROP INDEX CONCURRENTLY IF EXISTS tracking_task_owner_id_8cc37e07;",
            reverse_sql="""
            CREATE INDEX CONCURRENTLY IF NOT EXISTS tracking_task_owner_id_8cc37e07
            ON tracking_task (owner_id);
            """,
            state_operations=[
                migrations.AlterField(
                    model_name="task",
                    name="owner",
                    field=models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                )
            ],
        ),
    ]
