-- crashed_jobs: the running jobs of a worker that is dead (null: of none), with what complete.sql
-- and the count of crashes need. A job that was sent back by hand starts counting anew, as in
-- claim.sql; one without a Task has no Attempts, so all its runs count. Rows that somebody holds
-- are left for the next time.
SELECT
    job.id, job.attempts,
    CASE WHEN task.id IS NULL THEN job.attempts ELSE (
        SELECT count(*) FROM tracking_attempt AS attempt
        WHERE attempt.task_id = task.id AND attempt.kind = 'crashed'
          AND attempt.number > coalesce((
              SELECT max(number) FROM tracking_attempt
              WHERE task_id = task.id AND kind = 'retried'
          ), 0)
          AND attempt.finished_at > coalesce((
              SELECT max(event.at) FROM procrastinate_events AS event
              WHERE event.job_id = job.id AND event.type = 'retried'
          ), '-infinity')
    ) END AS crashes,
    coalesce((
        SELECT max(event.at) FROM procrastinate_events AS event
        WHERE event.job_id = job.id AND event.type = 'started'
    ), clock_timestamp()) AS started_at
FROM procrastinate_jobs AS job
LEFT JOIN tracking_task AS task ON task.job_id = job.id
WHERE job.status = 'doing'
  AND job.worker_id IS NOT DISTINCT FROM %(worker_id)s
  AND (%(queues)s::text[] IS NULL OR job.queue_name = ANY(%(queues)s))
  AND (%(job_ids)s::bigint[] IS NULL OR job.id = ANY(%(job_ids)s))
ORDER BY job.id
FOR NO KEY UPDATE OF job SKIP LOCKED;
