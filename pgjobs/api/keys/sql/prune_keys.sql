-- prune_keys: deletes one batch of keys that have expired, oldest first by the index on expires_at.
-- It waits for nobody: a key that is locked just now is being taken over.
-- The planner: a list made once; as a subquery it may be made again for each row, and delete them all.
WITH expired AS MATERIALIZED (
    SELECT id FROM pgjobs_api_key
    WHERE expires_at <= clock_timestamp()
    ORDER BY expires_at
    LIMIT %(batch)s
    FOR UPDATE SKIP LOCKED
)
DELETE FROM pgjobs_api_key AS pruned
USING expired
WHERE pruned.id = expired.id;
