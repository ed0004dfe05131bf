import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("procrastinate", "0041_post_retry_failed_job"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="WorkerProcess",
            fields=[
                ("id", models.BigIntegerField(primary_key=True, serialize=False)),
                ("name", models.CharField(max_length=200)),
                ("has_session", models.BooleanField()),
                ("started_at", models.DateTimeField()),
                ("token", models.CharField(db_default="", default="", max_length=32)),
            ],
        ),
        migrations.CreateModel(
            name="Task",
            fields=[
                ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ("task_name", models.CharField(max_length=128)),
                ("queue_name", models.CharField(max_length=128)),
                (
                    "input_data",
                    models.JSONField(help_text="The arguments, sensitive ones redacted."),
                ),
                ("related_table", models.CharField(max_length=128, null=True)),
                ("related_id", models.CharField(max_length=128, null=True)),
                ("operation", models.CharField(max_length=16, null=True)),
                ("permission", models.CharField(editable=False, max_length=255, null=True)),
                ("correlation_id", models.CharField(max_length=128)),
                (
                    "progress",
                    models.PositiveSmallIntegerField(default=0, help_text="Percent, 0 to 100."),
                ),
                ("progress_message", models.CharField(db_default="", default="", max_length=200)),
                (
                    "end_status",
                    models.CharField(
                        choices=[
                            ("DONE", "Done"),
                            ("FAILED", "Failed"),
                            ("CANCELLED", "Cancelled"),
                        ],
                        max_length=16,
                        null=True,
                    ),
                ),
                ("result", models.JSONField(null=True)),
                (
                    "error",
                    models.JSONField(
                        help_text="{code, message} of a FAILED or CANCELLED task.", null=True
                    ),
                ),
                ("attempts", models.PositiveIntegerField(default=0)),
                ("started_at", models.DateTimeField(help_text="Start of the last run.", null=True)),
                ("finished_at", models.DateTimeField(null=True)),
                ("created_at", models.DateTimeField()),
                ("updated_at", models.DateTimeField()),
                (
                    "job",
                    models.OneToOneField(
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="task",
                        to="procrastinate.procrastinatejob",
                    ),
                ),
                (
                    "owner",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "ordering": ["-id"],
            },
        ),
        migrations.CreateModel(
            name="Tag",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(max_length=64)),
                (
                    "owner",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "task",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="tags",
                        to="pgjobs.task",
                    ),
                ),
            ],
            options={
                "ordering": ["task", "name"],
            },
        ),
        migrations.CreateModel(
            name="Attempt",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("number", models.PositiveIntegerField(help_text="1 is the first run.")),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("failed", "Failed"),
                            ("crashed", "Crashed"),
                            ("handed_back", "Handed back"),
                            ("retried", "Retried"),
                        ],
                        db_default="failed",
                        max_length=16,
                    ),
                ),
                ("worker_name", models.CharField(max_length=200)),
                ("error_class", models.CharField(max_length=200)),
                ("message", models.TextField()),
                ("traceback", models.TextField()),
                ("started_at", models.DateTimeField()),
                ("finished_at", models.DateTimeField()),
                (
                    "task",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="failed_attempts",
                        to="pgjobs.task",
                    ),
                ),
            ],
            options={
                "ordering": ["task", "number", "id"],
            },
        ),
        migrations.CreateModel(
            name="Entry",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("at", models.DateTimeField(auto_now_add=True)),
                (
                    "action",
                    models.CharField(
                        choices=[
                            ("task_cancelled", "Task cancelled"),
                            ("task_retried", "Task retried"),
                            ("signed_in", "Signed in"),
                            ("sign_in_failed", "Failed to sign in"),
                            ("token_made", "API token made"),
                            ("token_revoked", "API token revoked"),
                            ("power_changed", "Power granted or taken"),
                            ("password_changed", "Password changed"),
                            ("activity_changed", "User activated or shut out"),
                            ("user_deleted", "User deleted"),
                        ],
                        max_length=32,
                    ),
                ),
                ("actor_name", models.CharField(max_length=150)),
                (
                    "address",
                    models.CharField(help_text="Where the request came from.", max_length=64),
                ),
                (
                    "target",
                    models.CharField(help_text="The task, user, group or token.", max_length=150),
                ),
                ("details", models.JSONField(default=dict)),
                ("correlation_id", models.CharField(max_length=128)),
                (
                    "actor",
                    models.ForeignKey(
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "entries",
                "ordering": ["-id"],
                "indexes": [
                    models.Index(fields=["at"], name="pgjobs_entry_at"),
                    models.Index(fields=["target", "id"], name="pgjobs_entry_target"),
                ],
            },
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                fields=["owner", "id", "end_status", "task_name", "related_table", "finished_at"],
                name="pgjobs_task_walk_owner",
            ),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                condition=models.Q(("related_id__isnull", False)),
                fields=["related_id", "id"],
                name="pgjobs_task_related_id",
            ),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                condition=models.Q(("end_status__in", ["FAILED", "CANCELLED"])),
                fields=["end_status", "id", "owner", "task_name", "related_table", "finished_at"],
                name="pgjobs_task_not_done",
            ),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                condition=models.Q(("finished_at__isnull", False)),
                fields=["finished_at"],
                name="pgjobs_task_finished_at",
            ),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                condition=models.Q(("end_status__isnull", True)),
                fields=["owner"],
                name="pgjobs_task_open_of_owner",
            ),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                condition=models.Q(("end_status__isnull", True)),
                fields=["id"],
                name="pgjobs_task_unfinished",
            ),
        ),
        migrations.AddConstraint(
            model_name="task",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("end_status__isnull", True), ("finished_at__isnull", True)),
                    models.Q(
                        ("end_status__in", ("DONE", "FAILED", "CANCELLED")),
                        ("end_status__isnull", False),
                        ("finished_at__isnull", False),
                    ),
                    _connector="OR",
                ),
                name="pgjobs_task_ended_iff_finished_at",
            ),
        ),
        migrations.AddConstraint(
            model_name="task",
            constraint=models.CheckConstraint(
                condition=models.Q(("progress__gte", 0), ("progress__lte", 100)),
                name="pgjobs_task_progress_in_percent",
            ),
        ),
        migrations.AddIndex(
            model_name="tag",
            index=models.Index(fields=["name", "task", "owner"], name="pgjobs_tag_walk"),
        ),
        migrations.AddConstraint(
            model_name="tag",
            constraint=models.UniqueConstraint(
                fields=("task", "name"), name="pgjobs_tag_once_a_task"
            ),
        ),
        migrations.AddConstraint(
            model_name="attempt",
            constraint=models.UniqueConstraint(
                condition=models.Q(("kind", "retried"), _negated=True),
                fields=("task", "number"),
                name="pgjobs_attempt_one_a_run",
            ),
        ),
    ]
