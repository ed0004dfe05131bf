-- unregister: ids that a worker needs no more; their jobs, if any are left, are found without a worker.
WITH process AS (
    DELETE FROM pgjobs_workerprocess WHERE id = ANY(%(worker_ids)s::bigint[])
)
DELETE FROM procrastinate_workers WHERE id = ANY(%(worker_ids)s::bigint[]);
