-- claim_next: the job a worker would be given next, by Procrastinate's own rules; no row if none.
WITH job AS (
    SELECT * FROM procrastinate_fetch_job_v2(%(queues)s::varchar[], NULL) WHERE id IS NOT NULL
)
SELECT
    job.id, job.task_name, job.queue_name, job.priority, job.lock, job.queueing_lock,
    job.args::text, job.scheduled_at, job.attempts,
    task.id, task.owner_id, task.correlation_id, job.attempts AS failed_runs, clock_timestamp()
FROM job
LEFT JOIN tracking_task AS task ON task.job_id = job.id;
