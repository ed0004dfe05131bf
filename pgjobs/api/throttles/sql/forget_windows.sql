-- forget_windows: deletes a few windows that have ended. It waits for nobody: a row that is locked
-- just now is being counted in, and is left to the next time.
-- The planner: a list made once; as a subquery it may be made again for each row, and delete them all.
WITH ended AS MATERIALIZED (
    SELECT id FROM pgjobs_api_window
    WHERE ends_at <= clock_timestamp()
    ORDER BY ends_at
    LIMIT %(at_most)s
    FOR UPDATE SKIP LOCKED
)
DELETE FROM pgjobs_api_window AS forgotten
USING ended
WHERE forgotten.id = ended.id;
