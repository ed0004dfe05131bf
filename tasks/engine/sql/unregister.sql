-- unregister: a worker that ended; its jobs, if any are left, are found without a worker.
WITH process AS (
    DELETE FROM workers_workerprocess WHERE id = %(worker_id)s
)
DELETE FROM procrastinate_workers WHERE id = %(worker_id)s;
