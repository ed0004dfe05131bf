-- waiting: which of these sessions wait for a lock, for how many seconds, and who is before them.
SELECT
    waiting.pid,
    extract(epoch FROM clock_timestamp() - waiting.waitstart)::float AS seconds,
    pg_blocking_pids(waiting.pid) AS blockers
FROM pg_locks AS waiting
WHERE waiting.pid = ANY(%(pids)s::int[])
  AND NOT waiting.granted
  AND waiting.waitstart IS NOT NULL;
