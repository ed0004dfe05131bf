import django.db.models.functions.text
from django.apps.registry import Apps
from django.core.management.base import CommandError
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.models import Count
from django.db.models.functions import Lower

import myapp.users.names

# Ada and ada are one name: whoever signs up as the other is taken for the first.

SHOWN = 10
LOWER = django.db.models.functions.text.Lower


def refuse_twins(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Say which users differ by the case of their letters alone: only people can tell them apart."""
    users = apps.get_model("users", "User").objects.using(schema_editor.connection.alias)
    for field in ("username", "email"):
        twins = users.values(small=Lower(field)).alias(n=Count("pk")).filter(n__gt=1)
        found = [one["small"] for one in twins.order_by("small")[: SHOWN + 1]]
        if found:
            more = " and more" if len(found) > SHOWN else ""
            raise CommandError(
                f"Several users have the same {field} but for the case of its letters:"
                f" {', '.join(found[:SHOWN])}{more}. Rename all but one of each, then migrate again."
            )


def _index(name: str, field: str, taken: str) -> list[migrations.RunSQL]:
    constraint = models.UniqueConstraint(LOWER(field), name=name, violation_error_message=taken)
    return [
        # An interrupted build leaves an invalid index behind.
        migrations.RunSQL(
            sql=f"DROP INDEX CONCURRENTLY IF EXISTS {name};", reverse_sql=migrations.RunSQL.noop
        ),
        migrations.RunSQL(
            sql=f"CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS {name}"
            f" ON users_user (lower({field}));",
            reverse_sql=f"DROP INDEX CONCURRENTLY IF EXISTS {name};",
            state_operations=[migrations.AddConstraint(model_name="user", constraint=constraint)],
        ),
    ]


class Migration(migrations.Migration):
    atomic = False  # CONCURRENTLY: the table is written to meanwhile

    dependencies = [("users", "0004_add_signed_up_at")]

    operations = [
        migrations.RunPython(refuse_twins, migrations.RunPython.noop),
        *_index(
            "users_user_one_name", "username", "A user has this name, perhaps in other letters."
        ),
        *_index(
            "users_user_one_address", "email", "A user has this address, perhaps in other letters."
        ),
        migrations.AlterModelManagers(name="user", managers=[]),
        migrations.AlterField(
            model_name="user",
            name="email",
            field=models.EmailField(
                max_length=254,
                unique=True,
                validators=[myapp.users.names.check_mailable],
                verbose_name="email address",
            ),
        ),
    ]
