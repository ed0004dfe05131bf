from django.db import migrations, models
from django.db.models import Q

# What lists are walked along. The columns after the id are for filters, which are checked in the
# index. The first one takes the place of the index on owner and id.
FILTERED = ["end_status", "task_name", "related_table", "finished_at"]
INDEXES = {
    "(owner_id, id, end_status, task_name, related_table, finished_at)": models.Index(
        fields=["owner", "id", *FILTERED], name="tracking_task_walk_owner"
    ),
    "(related_id, id) WHERE related_id IS NOT NULL": models.Index(
        fields=["related_id", "id"],
        name="tracking_task_related_id",
        condition=Q(related_id__isnull=False),
    ),
    "(end_status, id, owner_id, task_name, related_table, finished_at)"
    " WHERE end_status IN ('FAILED', 'CANCELLED')": models.Index(
        fields=["end_status", "id", "owner", "task_name", "related_table", "finished_at"],
        name="tracking_task_not_done",
        condition=Q(end_status__in=["FAILED", "CANCELLED"]),
    ),
}
REPLACED = models.Index(fields=["owner", "-id"], name="tracking_task_owner_id")


def create(index: models.Index, columns: str) -> list[migrations.RunSQL]:
    """Return the build of an index beside whoever writes."""
    return [
        # An interrupted build leaves an invalid index behind.
        migrations.RunSQL(
            sql=f"DROP INDEX CONCURRENTLY IF EXISTS {index.name};",
            reverse_sql=migrations.RunSQL.noop,
        ),
        migrations.RunSQL(
            sql=f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {index.name} ON tracking_task {columns};",
            reverse_sql=f"DROP INDEX CONCURRENTLY IF EXISTS {index.name};",
            state_operations=[migrations.AddIndex(model_name="task", index=index)],
        ),
    ]


class Migration(migrations.Migration):
    atomic = False  # CONCURRENTLY: the table is written to meanwhile

    dependencies = [("tracking", "0006_create_tag")]

    operations = [
        *(step for columns, index in INDEXES.items() for step in create(index, columns)),
        migrations.RunSQL(
            sql=f"DROP INDEX CONCURRENTLY IF EXISTS {REPLACED.name};",
            reverse_sql=f"""
            CREATE INDEX CONCURRENTLY IF NOT EXISTS {REPLACED.name}
            ON tracking_task (owner_id, id DESC);
            """,
            state_operations=[migrations.RemoveIndex(model_name="task", name=REPLACED.name)],
        ),
    ]
