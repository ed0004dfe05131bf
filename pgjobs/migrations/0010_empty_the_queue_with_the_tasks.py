from django.db import migrations

# Django's flush truncates the tables of its models; those of the library are none of them. What
# empties the Tasks (`flush`, TransactionTestCase, LiveServerTestCase) left their jobs, which then
# ran without them.

EMPTY = """
CREATE FUNCTION pgjobs_empty_queue() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM procrastinate_jobs;
    RETURN NULL;
END;
$$;

CREATE TRIGGER pgjobs_empty_queue AFTER TRUNCATE ON pgjobs_task
FOR EACH STATEMENT EXECUTE FUNCTION pgjobs_empty_queue();
"""

KEEP = """
DROP TRIGGER pgjobs_empty_queue ON pgjobs_task;
DROP FUNCTION pgjobs_empty_queue();
"""


class Migration(migrations.Migration):
    dependencies = [("pgjobs", "0009_write_events_once_a_statement")]

    operations = [migrations.RunSQL(sql=EMPTY, reverse_sql=KEEP)]
