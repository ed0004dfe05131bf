from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("tracking", "0001_create_task_and_attempt")]

    operations = [
        migrations.AddField(
            model_name="attempt",
            name="kind",
            field=models.CharField(
                choices=[("failed", "Failed"), ("crashed", "Crashed")],
                db_default="failed",
                max_length=16,
            ),
        ),
    ]
