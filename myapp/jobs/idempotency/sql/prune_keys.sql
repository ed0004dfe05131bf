-- prune_keys: deletes one batch of keys that have expired, oldest first by the index on expires_at.
-- It waits for nobody: a key that is locked just now is being taken over.
DELETE FROM idempotency_key WHERE id IN (
    SELECT id FROM idempotency_key
    WHERE expires_at <= clock_timestamp()
    ORDER BY expires_at
    LIMIT %(batch)s
    FOR UPDATE SKIP LOCKED
);
