from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("users", "0003_fill_activated_at")]

    operations = [
        migrations.AddField(
            model_name="user",
            name="signed_up_at",
            field=models.DateTimeField(blank=True, editable=False, null=True),
        ),
    ]
