-- count_open_beside_others: whether a user is far from `limit` open tasks, so that creators need not
-- wait for each other. The count is a statement after that of the lock, so that it is taken with the
-- lock held: who counts alone (count_open_alone.sql) waits for all that hold it shared, and sees what
-- they committed. A lock that anybody holds is waited for a second at most (lock_timeout, then put
-- back).
-- Far: with one task from each connection that there can be, the limit is still not reached. Once the
-- committed count is nearer, nobody new counts here, and those under way are fewer than connections.
-- The planner: OFFSET stops the walk along pgjobs_task_open_of_owner at the row that decides.
SELECT
    set_config('jobs.lock_timeout', current_setting('lock_timeout'), true),
    set_config('lock_timeout', '1s', true);
SELECT pg_advisory_xact_lock_shared(hashtextextended('open tasks ' || CAST(%(owner_id)s AS text), 0));
SELECT set_config('lock_timeout', current_setting('jobs.lock_timeout'), true);
SELECT %(limit)s > current_setting('max_connections')::int AND NOT EXISTS (
    SELECT FROM pgjobs_task
    WHERE owner_id = %(owner_id)s AND end_status IS NULL
    OFFSET greatest(%(limit)s - current_setting('max_connections')::int - 1, 0)
) AS is_far;
