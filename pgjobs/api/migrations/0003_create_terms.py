import django.db.models.deletion
from django.db import migrations, models

import pgjobs.defer.ids
from pgjobs.database.migrating import PostgresSQL

# Of the server's own: processes of before, and SQL by hand, delete tokens and know no terms.
CASCADE = """
ALTER TABLE pgjobs_api_terms ADD CONSTRAINT pgjobs_api_terms_token
FOREIGN KEY (token_id) REFERENCES knox_authtoken (digest) ON DELETE CASCADE
"""


class Migration(migrations.Migration):
    dependencies = [
        ("pgjobs_api", "0002_count_without_a_log"),
        ("knox", "0009_extend_authtoken_field"),
    ]

    operations = [
        migrations.CreateModel(
            name="Terms",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=pgjobs.defer.ids.uuid7,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                (
                    "name",
                    models.CharField(
                        help_text="What it is for, in its user's words.", max_length=80
                    ),
                ),
                (
                    "scope",
                    models.CharField(
                        choices=[
                            ("full", "All that its user may"),
                            ("read", "Reads alone: GET and HEAD"),
                        ],
                        default="full",
                        max_length=16,
                    ),
                ),
                ("last_used_at", models.DateTimeField(help_text="To the minute.", null=True)),
                (
                    "token",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="terms",
                        swappable=False,
                        to="knox.authtoken",
                    ),
                ),
            ],
            options={"verbose_name_plural": "terms"},
        ),
        PostgresSQL(CASCADE, migrations.RunSQL.noop, hints={"model_name": "terms"}),
    ]
