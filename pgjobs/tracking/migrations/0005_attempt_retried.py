from django.db import migrations, models
from django.db.models import Q

# One Attempt for each run, as before; an end that was taken back is no run and may come twice.
CONSTRAINT = models.UniqueConstraint(
    fields=["task", "number"], name="tracking_attempt_one_a_run", condition=~Q(kind="retried")
)


class Migration(migrations.Migration):
    atomic = False  # CONCURRENTLY: the table is written to meanwhile

    dependencies = [("tracking", "0004_drop_index_of_owner")]

    operations = [
        migrations.AlterModelOptions(
            name="attempt", options={"ordering": ["task", "number", "id"]}
        ),
        migrations.AlterField(
            model_name="attempt",
            name="kind",
            field=models.CharField(
                choices=[("failed", "Failed"), ("crashed", "Crashed"), ("retried", "Retried")],
                db_default="failed",
                max_length=16,
            ),
        ),
        # An interrupted build leaves an invalid index behind.
        migrations.RunSQL(
            sql="DROP INDEX CONCURRENTLY IF EXISTS tracking_attempt_one_a_run;",
            reverse_sql=migrations.RunSQL.noop,
        ),
        migrations.RunSQL(
            sql="""
            CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS tracking_attempt_one_a_run
            ON tracking_attempt (task_id, number) WHERE kind <> 'retried';
            """,
            reverse_sql="DROP INDEX CONCURRENTLY IF EXISTS tracking_attempt_one_a_run;",
            state_operations=[
                migrations.AddConstraint(model_name="attempt", constraint=CONSTRAINT)
            ],
        ),
        migrations.RunSQL(
            sql="""
            -- The index above holds it for runs; a version that runs beside this one knows no others.
            -- squawk-ignore ban-drop-constraint
            ALTER TABLE tracking_attempt DROP CONSTRAINT IF EXISTS tracking_attempt_once_a_run;
            """,
            reverse_sql="""
            DELETE FROM tracking_attempt WHERE kind = 'retried';
            ALTER TABLE tracking_attempt
            ADD CONSTRAINT tracking_attempt_once_a_run UNIQUE (task_id, number);
            """,
            state_operations=[
                migrations.RemoveConstraint(
                    model_name="attempt", name="tracking_attempt_once_a_run"
                )
            ],
        ),
    ]
