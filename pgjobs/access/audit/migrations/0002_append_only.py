from django.db import migrations

# What was done stays done: an entry is neither changed nor deleted, but for its age (prune_entries.sql).

GUARD = """
CREATE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('jobs.audit_prune', true) = 'on' THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'audit_entry is append-only: entries are deleted by their age alone';
END;
$$;

CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON audit_entry
FOR EACH ROW EXECUTE FUNCTION audit_append_only();
"""

UNGUARD = """
DROP TRIGGER audit_append_only ON audit_entry;
DROP FUNCTION audit_append_only();
"""


class Migration(migrations.Migration):
    dependencies = [("audit", "0001_create_entry")]

    operations = [migrations.RunSQL(sql=GUARD, reverse_sql=UNGUARD)]
