-- claim_key: takes a key for this transaction; gives the id of its row, or null when the key stands
-- for an effect that is committed. A twin that holds it is waited for on the unique index: until it
-- commits (null), or rolls back or dies (the key is ours), or lock_timeout ends the statement.
-- The limit holds for this wait alone: the last step puts back what the caller had, and so does a
-- rollback. The row has to come from `bounded`, which thus runs before the wait.
-- A key past its time is taken over in place; of two who do so, the second finds it taken. One that
-- is not is locked to the end of our transaction, so that `find_key` is sure to find it.
WITH bounded AS MATERIALIZED (
    SELECT current_setting('lock_timeout') AS before, set_config('lock_timeout', '1s', true) AS now
), claimed AS (
    INSERT INTO pgjobs_api_key AS held (caller, key, fingerprint, task_ids, expires_at)
    SELECT
        %(caller)s, %(key)s, %(fingerprint)s, '[]',
        clock_timestamp() + make_interval(hours => %(kept_for_hours)s)
    FROM bounded
    WHERE bounded.now <> ''
    ON CONFLICT (caller, key) DO UPDATE SET
        fingerprint = excluded.fingerprint,
        task_ids = excluded.task_ids,
        expires_at = excluded.expires_at
    WHERE held.expires_at <= clock_timestamp()
    RETURNING held.id
)
SELECT claimed.id, set_config('lock_timeout', bounded.before, true)
FROM bounded LEFT JOIN claimed ON true;
