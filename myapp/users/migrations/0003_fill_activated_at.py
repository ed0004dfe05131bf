from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.models import Exists, F, OuterRef, Q

# Who is active, has signed in or has an API token was active once. When is not known any more; no
# earlier than they were created. Who is none of these may still wait for the mail.


def fill(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    users = apps.get_model("users", "User").objects.using(schema_editor.connection.alias)
    tokens = apps.get_model("knox", "AuthToken").objects.filter(user=OuterRef("pk"))
    was_active = Q(is_active=True) | Q(last_login__isnull=False) | Exists(tokens)
    users.filter(was_active, activated_at=None).update(activated_at=F("created_at"))


class Migration(migrations.Migration):
    dependencies = [
        ("users", "0002_add_activated_at"),
        ("knox", "0009_extend_authtoken_field"),
    ]

    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
