-- retry: a job that failed or was cancelled waits again, and its Task has no end any more; the end it
-- had becomes an Attempt `retried`. All in one statement, or none of it. No row: the job is gone, or
-- in another state. A queueing lock that another waiting job holds is a unique violation.
--
-- The fence: the job's row is locked by its key and its state looked at after that, so that of two
-- who retry one finds it waiting. Then the Task's, which gives the end as it is now and not as it was
-- when the statement began; job before Task, as everywhere. `status` is compared as text, which keeps
-- partial indexes out.
-- Retries and crashes are counted by the Attempts after the last `retried` one: by number, since a
-- clock read in a long transaction may lie before the failure that it takes back. The library's event
-- `retried` is written by its trigger for a job that failed, and here for the others.
WITH clock AS MATERIALIZED (
    SELECT clock_timestamp() AS now
), held AS MATERIALIZED (
    SELECT job.*, task.*
    FROM (
        SELECT id AS job_id, status::text AS job_status, attempts AS runs
        FROM procrastinate_jobs
        WHERE id = (SELECT job_id FROM pgjobs_task WHERE id = %(task_id)s)
          AND status::text IN ('failed', 'cancelled', 'aborted')
        FOR NO KEY UPDATE
    ) AS job
    CROSS JOIN LATERAL (
        SELECT id AS task_id, error, started_at, finished_at
        FROM pgjobs_task
        WHERE pgjobs_task.job_id = job.job_id
        FOR NO KEY UPDATE
    ) AS task
), sent AS (
    UPDATE procrastinate_jobs AS job
    SET status = 'todo', abort_requested = false, worker_id = NULL, scheduled_at = NULL
    FROM held
    WHERE job.id = held.job_id
    RETURNING job.id
), noted AS (
    INSERT INTO procrastinate_events (job_id, type)
    SELECT sent.id, 'retried' FROM sent, held WHERE held.job_status <> 'failed'
), kept AS (
    INSERT INTO pgjobs_attempt (
        task_id, number, kind, worker_name, error_class, message, traceback, started_at, finished_at
    )
    SELECT
        held.task_id, held.runs, 'retried', '', ending.error ->> 'code', ending.error ->> 'message',
        '', coalesce(held.started_at, held.finished_at, clock.now),
        coalesce(held.finished_at, clock.now)
    FROM held, clock, LATERAL (
        -- An end by another hand that no reaper has noticed yet is not on the Task.
        SELECT coalesce(held.error, (%(errors)s::jsonb) -> held.job_status) AS error
    ) AS ending
)
UPDATE pgjobs_task AS task
SET end_status = NULL, result = NULL, error = NULL, progress = 0, progress_message = '',
    attempts = held.runs, started_at = NULL, finished_at = NULL, updated_at = clock.now
FROM held, clock, sent
WHERE task.id = held.task_id
RETURNING task.job_id;
