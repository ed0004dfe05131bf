-- crashed_jobs: the running jobs of a worker that is dead (null: of none), with what complete.sql
-- needs. Rows that another transaction holds are left for the next time.
SELECT
    job.id, job.attempts,
    (SELECT task.id::text FROM pgjobs_task AS task WHERE task.job_id = job.id) AS task_id,
    coalesce((
        SELECT max(event.at) FROM procrastinate_events AS event
        WHERE event.job_id = job.id AND event.type = 'started'
    ), clock_timestamp()) AS started_at
FROM procrastinate_jobs AS job
WHERE job.status = 'doing'
  AND job.worker_id IS NOT DISTINCT FROM %(worker_id)s
  AND (%(queues)s::text[] IS NULL OR job.queue_name = ANY(%(queues)s))
  AND (%(job_ids)s::bigint[] IS NULL OR job.id = ANY(%(job_ids)s))
ORDER BY job.id
FOR NO KEY UPDATE OF job SKIP LOCKED;
