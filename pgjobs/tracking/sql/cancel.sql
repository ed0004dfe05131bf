-- cancel: a job that waits ends CANCELLED at once, with its Task; one that runs is asked to stop, of
-- which Procrastinate's trigger tells its worker. Gives the job's status as it then is; no row: the
-- job is gone, or has ended. One that was asked before is left as it is.
-- The job's row is locked by its key and its state looked at after that: a claim or an end that was
-- first has happened. Its new state is written out for one that runs, too: Postgres checks constraints
-- on the row as the statement first saw it, still `todo`, before it takes the newer one.
-- Job before Task, as everywhere; `status` as text keeps partial indexes out.
WITH clock AS MATERIALIZED (
    SELECT clock_timestamp() AS now
), held AS MATERIALIZED (
    SELECT id, status::text = 'todo' AS waits, attempts, abort_requested
    FROM procrastinate_jobs
    WHERE id = (SELECT job_id FROM pgjobs_task WHERE id = %(task_id)s)
      AND status::text IN ('todo', 'doing')
    FOR NO KEY UPDATE
), moved AS (
    UPDATE procrastinate_jobs AS job
    SET status = CASE WHEN held.waits THEN 'cancelled' ELSE 'doing' END::procrastinate_job_status,
        abort_requested = NOT held.waits
    FROM held
    WHERE job.id = held.id AND (held.waits OR NOT held.abort_requested)
    RETURNING job.id
), told AS (
    UPDATE pgjobs_task AS task
    SET end_status = %(end_status)s, error = %(error)s::jsonb, attempts = held.attempts,
        finished_at = clock.now, updated_at = clock.now
    FROM held, clock, moved
    WHERE held.waits AND task.job_id = moved.id AND coalesce(task.end_status, '') = ''
)
SELECT CASE WHEN waits THEN 'cancelled' ELSE 'doing' END FROM held;
