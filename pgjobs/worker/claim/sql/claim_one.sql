-- claim_one: the job with this id, if it waits; for running it at once by whoever deferred it.
WITH job AS (
    UPDATE procrastinate_jobs SET status = 'doing'
    WHERE id = %(job_id)s AND status = 'todo'
    RETURNING *
)
SELECT
    job.id, job.task_name, job.queue_name, job.priority, job.lock, job.queueing_lock,
    job.args::text, job.scheduled_at, job.attempts,
    task.id, task.owner_id, task.permission, task.correlation_id, job.attempts AS failed_runs,
    clock_timestamp()
FROM job
LEFT JOIN pgjobs_task AS task ON task.job_id = job.id;
