-- retry: the job back to waiting, its Task with it, and the Attempt of the failure.
WITH waiting AS (
    UPDATE tracking_task
    SET attempts = %(run_number)s::integer, progress = 0, progress_message = '',
        updated_at = clock_timestamp()
    WHERE job_id = %(job_id)s AND end_status IS NULL
    RETURNING id
), attempt AS (
    INSERT INTO tracking_attempt (
        task_id, number, worker_name, error_class, message, traceback, started_at, finished_at
    )
    SELECT
        id, %(run_number)s::integer, %(worker_name)s, %(error_class)s::text, %(message)s,
        %(traceback)s, %(started_at)s::timestamptz, clock_timestamp()
    FROM waiting
)
SELECT procrastinate_retry_job_v2(
    %(job_id)s, %(retry_at)s, %(priority)s::integer, %(queue)s, %(lock)s
);
