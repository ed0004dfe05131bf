from django.db import migrations

# Counts are worth no write-ahead log: a crash of the server empties the table.


class Migration(migrations.Migration):
    dependencies = [("pgjobs_api", "0001_create_tables")]

    operations = [
        migrations.RunSQL(
            sql="ALTER TABLE pgjobs_api_window SET UNLOGGED;",
            reverse_sql=migrations.RunSQL.noop,
        ),
    ]
