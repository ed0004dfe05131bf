from django.db import migrations, models

# Sessions of a worker's task functions carry its token in their name: whoever finds it dead ends them.
# An older worker has none, and the sessions it leaves end by themselves.


class Migration(migrations.Migration):
    dependencies = [("workers", "0010_tell_followers")]

    operations = [
        migrations.AddField(
            model_name="workerprocess",
            name="token",
            field=models.CharField(db_default="", default="", max_length=32),
        ),
    ]
