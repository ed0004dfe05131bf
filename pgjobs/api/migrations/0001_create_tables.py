from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Key",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "caller",
                    models.CharField(
                        help_text="`user:` and an id, or `address:` and one.", max_length=128
                    ),
                ),
                ("key", models.CharField(max_length=255)),
                (
                    "fingerprint",
                    models.BinaryField(help_text="Of the request; its body is not kept."),
                ),
                ("task_ids", models.JSONField(help_text="What was answered, in order.")),
                ("expires_at", models.DateTimeField()),
            ],
            options={
                "indexes": [models.Index(fields=["expires_at"], name="pgjobs_api_key_expires_at")],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("caller", "key"), name="pgjobs_api_key_caller_key"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Window",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("scope", models.CharField(max_length=64)),
                ("caller", models.CharField(max_length=64)),
                ("requests", models.PositiveIntegerField()),
                ("ends_at", models.DateTimeField()),
            ],
            options={
                "indexes": [models.Index(fields=["ends_at"], name="pgjobs_api_window_ends_at")],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("scope", "caller"), name="pgjobs_api_window_scope_caller"
                    )
                ],
            },
        ),
    ]
