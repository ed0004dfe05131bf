-- count_open_alone: how many open tasks a user has, `limit` at most, while nobody else creates any for
-- them: until this transaction ends they wait, for a second at most (lock_timeout, then put back).
-- Several statements, as in count_open_beside_others.sql; the last gives the row.
SELECT
    set_config('jobs.lock_timeout', current_setting('lock_timeout'), true),
    set_config('lock_timeout', '1s', true);
SELECT pg_advisory_xact_lock(hashtextextended('open tasks ' || CAST(%(owner_id)s AS text), 0));
SELECT set_config('lock_timeout', current_setting('jobs.lock_timeout'), true);
SELECT count(*)::int FROM (
    SELECT FROM pgjobs_task WHERE owner_id = %(owner_id)s AND end_status IS NULL LIMIT %(limit)s
) AS open;
