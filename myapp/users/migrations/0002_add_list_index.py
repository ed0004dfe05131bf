"""The order of the list of users."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False  # CONCURRENTLY runs outside of a transaction

    dependencies = [("users", "0001_create_user")]

    operations = [
        AddIndexConcurrently(
            model_name="user",
            index=models.Index(fields=["created_at", "id"], name="users_user_list"),
        ),
    ]
