-- prune_entries: deletes entries that are old enough, which the trigger lets nobody else do.
SELECT set_config('jobs.audit_prune', 'on', true);
WITH old AS MATERIALIZED (
    SELECT id FROM pgjobs_entry
    WHERE at < clock_timestamp() - %(age)s::interval
    ORDER BY at LIMIT %(batch)s
)
DELETE FROM pgjobs_entry AS gone USING old WHERE gone.id = old.id;
