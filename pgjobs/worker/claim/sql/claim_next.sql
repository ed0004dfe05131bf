-- claim_next: the job a worker would be given next, one at a time and over all locks; no row if none.
-- For tests of teams, whose queues are short: the rules are those of claim.sql, written out.
WITH job AS (
    UPDATE procrastinate_jobs SET status = 'doing'
    WHERE id = (
        SELECT id FROM procrastinate_jobs AS job
        WHERE status = 'todo'
          AND (%(queues)s::text[] IS NULL OR queue_name = ANY(%(queues)s))
          AND (scheduled_at IS NULL OR scheduled_at <= now())
          AND NOT EXISTS (
              SELECT FROM procrastinate_jobs AS other
              WHERE other.lock = job.lock AND (
                  other.status = 'doing'
                  OR other.status = 'todo'
                  AND (other.priority, -other.id) > (job.priority, -job.id)
                  AND (other.scheduled_at IS NULL OR other.attempts > 0 OR other.scheduled_at <= now())
              )
          )
        ORDER BY priority DESC, id LIMIT 1
        FOR NO KEY UPDATE SKIP LOCKED
    )
    RETURNING *
)
SELECT
    job.id, job.task_name, job.queue_name, job.priority, job.lock, job.queueing_lock,
    job.args::text, job.scheduled_at, job.attempts,
    task.id, task.owner_id, task.permission, task.correlation_id, job.attempts AS failed_runs,
    clock_timestamp()
FROM job
LEFT JOIN pgjobs_task AS task ON task.job_id = job.id;
