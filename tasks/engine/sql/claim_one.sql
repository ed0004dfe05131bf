-- claim_one: the job with this id, if it waits; for running it at once by whoever deferred it.
UPDATE procrastinate_jobs SET status = 'doing'
WHERE id = %(job_id)s AND status = 'todo'
RETURNING id, task_name, queue_name, priority, lock, args::text, attempts;
