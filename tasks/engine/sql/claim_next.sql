-- claim_next: the job a worker would be given next, by Procrastinate's own rules; no row if none.
SELECT id, task_name, queue_name, priority, lock, args::text, attempts
FROM procrastinate_fetch_job_v2(%(queues)s::varchar[], NULL)
WHERE id IS NOT NULL;
