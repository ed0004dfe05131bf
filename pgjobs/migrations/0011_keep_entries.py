from django.db import migrations

# What was done stays done: an entry is neither changed nor deleted, but for its age (prune_entries.sql).

GUARD = """
CREATE FUNCTION pgjobs_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('jobs.audit_prune', true) = 'on' THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'pgjobs_entry is append-only: entries are deleted by their age alone';
END;
$$;

CREATE TRIGGER pgjobs_append_only BEFORE UPDATE OR DELETE ON pgjobs_entry
FOR EACH ROW EXECUTE FUNCTION pgjobs_append_only();
"""

UNGUARD = """
DROP TRIGGER pgjobs_append_only ON pgjobs_entry;
DROP FUNCTION pgjobs_append_only();
"""


class Migration(migrations.Migration):
    dependencies = [("pgjobs", "0010_empty_the_queue_with_the_tasks")]

    operations = [migrations.RunSQL(sql=GUARD, reverse_sql=UNGUARD)]
