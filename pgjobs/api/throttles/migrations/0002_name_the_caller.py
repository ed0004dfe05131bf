from django.db import migrations, models


class Migration(migrations.Migration):
    # Users and tokens are counted as well as addresses. The column keeps its name, by which a
    # version that runs beside this one writes to it.
    dependencies = [("throttles", "0001_create_window")]

    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.RemoveConstraint("window", "throttles_window_scope_address"),
                migrations.RenameField("window", "address", "caller"),
                migrations.AlterField(
                    "window", "caller", models.CharField(db_column="address", max_length=64)
                ),
                migrations.AddConstraint(
                    "window",
                    models.UniqueConstraint(
                        fields=["scope", "caller"], name="throttles_window_scope_address"
                    ),
                ),
            ]
        )
    ]
