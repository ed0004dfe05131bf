from django.db import migrations

# Django's flush truncates the tables of its models; those of the library are none of them. What
# empties the Tasks (`flush`, TransactionTestCase, LiveServerTestCase) left their jobs, which then
# ran without them.

EMPTY = """
CREATE FUNCTION workers_empty_queue() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM procrastinate_jobs;
    RETURN NULL;
END;
$$;

CREATE TRIGGER workers_empty_queue AFTER TRUNCATE ON tracking_task
FOR EACH STATEMENT EXECUTE FUNCTION workers_empty_queue();
"""

KEEP = """
DROP TRIGGER workers_empty_queue ON tracking_task;
DROP FUNCTION workers_empty_queue();
"""


class Migration(migrations.Migration):
    dependencies = [
        ("workers", "0011_name_sessions_of_workers"),
        ("tracking", "0009_index_open_tasks_of_owner"),
    ]

    operations = [migrations.RunSQL(sql=EMPTY, reverse_sql=KEEP)]
