from django.db import migrations, models


class Migration(migrations.Migration):
    # Nullable: a version that runs beside this one writes users without it.
    dependencies = [("users", "0001_create_user")]

    operations = [
        migrations.AddField(
            "user",
            "activated_at",
            models.DateTimeField(blank=True, editable=False, null=True),
        ),
    ]
