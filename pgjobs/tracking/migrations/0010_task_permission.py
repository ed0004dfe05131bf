from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("tracking", "0009_index_open_tasks_of_owner")]

    operations = [
        migrations.AddField(
            model_name="task",
            name="permission",
            field=models.CharField(editable=False, max_length=255, null=True),
        ),
    ]
