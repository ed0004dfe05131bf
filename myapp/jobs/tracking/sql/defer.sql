-- defer: one job and its Task in one statement, so that neither can exist without the other.
-- The job goes through Procrastinate's own function; its triggers write the event and the NOTIFY.
-- now() is the start of the caller's transaction; clock_timestamp() is when this was accepted.
WITH job AS (
    SELECT unnest(procrastinate_defer_jobs_v1(ARRAY[
        ROW(
            %(queue_name)s, %(task_name)s, %(priority)s, %(lock)s, NULL,
            %(arguments)s::jsonb, NULL
        )::procrastinate_job_to_defer_v1
    ])) AS id
)
INSERT INTO tracking_task (
    id, job_id, task_name, queue_name, input_data, related_table, related_id, operation,
    owner_id, correlation_id, progress, attempts, created_at, updated_at
)
SELECT
    %(task_id)s, job.id, %(task_name)s, %(queue_name)s, %(input_data)s::jsonb, %(related_table)s,
    %(related_id)s, %(operation)s, %(owner_id)s, %(correlation_id)s, 0, 0,
    clock_timestamp(), clock_timestamp()
FROM job
RETURNING job_id;
