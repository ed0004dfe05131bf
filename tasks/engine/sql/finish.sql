-- finish: the job's end, the Task's end and the Attempt of a failure, together or not at all.
-- Procrastinate's function raises when the job is not running, which undoes the rest.
-- Postgres runs the main query first and the CTEs nobody reads after it, so the job is locked
-- before the Task, and the Task before its Attempt: the order everywhere.
WITH clock AS MATERIALIZED (
    SELECT clock_timestamp() AS now  -- read once: the end and the last change are one moment
), ended AS (
    UPDATE tracking_task
    SET end_status = %(end_status)s,
        result = %(result)s::jsonb,
        error = %(error)s::jsonb,
        progress = coalesce(%(progress)s::smallint, progress),
        progress_message = coalesce(%(progress_message)s, progress_message),
        related_id = coalesce(related_id, %(related_id)s::text),
        attempts = %(run_number)s::integer,
        started_at = %(started_at)s::timestamptz,
        finished_at = clock.now,
        updated_at = clock.now
    FROM clock
    WHERE job_id = %(job_id)s AND end_status IS NULL
    RETURNING tracking_task.id
), attempt AS (
    INSERT INTO tracking_attempt (
        task_id, number, worker_name, error_class, message, traceback, started_at, finished_at
    )
    SELECT
        ended.id, %(run_number)s::integer, %(worker_name)s, %(error_class)s::text, %(message)s,
        %(traceback)s, %(started_at)s::timestamptz, clock.now
    FROM ended, clock WHERE %(error_class)s::text IS NOT NULL
)
SELECT procrastinate_finish_job_v1(
    %(job_id)s, %(job_status)s::procrastinate_job_status, %(delete_job)s
);
