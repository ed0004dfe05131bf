-- forget_windows: deletes a few windows that have ended. It waits for nobody: a row that is locked
-- just now is being counted in, and is left to the next time.
DELETE FROM throttles_window WHERE id IN (
    SELECT id FROM throttles_window
    WHERE ends_at <= clock_timestamp()
    ORDER BY ends_at
    LIMIT %(at_most)s
    FOR UPDATE SKIP LOCKED
);
