-- defer: one job and its Task in one statement, so that neither can exist without the other.
-- A queueing lock that another waiting job holds is no error, which would abort the caller's
-- transaction: the statement then gives that job and its Task instead. It gives no row when that
-- job began to run meanwhile, or was committed after our snapshot; the caller asks again.
-- Procrastinate's triggers write the event and the NOTIFY. Due times are by this server's clock;
-- clock_timestamp() is when this was accepted, now() would be when the transaction began.
WITH clock AS MATERIALIZED (
    SELECT clock_timestamp() AS now  -- read once: made and last changed are one moment
), job AS (
    INSERT INTO procrastinate_jobs (
        queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at
    )
    VALUES (
        %(queue_name)s, %(task_name)s, %(priority)s, %(lock)s, %(queueing_lock)s,
        %(arguments)s::jsonb,
        coalesce(%(schedule_at)s::timestamptz, clock_timestamp() + %(schedule_in)s::interval)
    )
    ON CONFLICT (queueing_lock) WHERE status = 'todo' DO NOTHING
    RETURNING id
), task AS (
    INSERT INTO pgjobs_task (
        id, job_id, task_name, queue_name, input_data, related_table, related_id, operation,
        owner_id, permission, correlation_id, progress, attempts, created_at, updated_at
    )
    SELECT
        %(task_id)s, job.id, %(task_name)s, %(queue_name)s, %(input_data)s::jsonb,
        %(related_table)s, %(related_id)s, %(operation)s, %(owner_id)s, %(permission)s,
        %(correlation_id)s, 0, 0, clock.now, clock.now
    FROM job, clock
    RETURNING id, job_id
), tagged AS (
    -- No row for a job without tags.
    INSERT INTO pgjobs_tag (task_id, name, owner_id)
    SELECT task.id, name, %(owner_id)s
    FROM task, unnest(%(tags)s::text[]) AS name
)
SELECT id AS task_id, job_id, true AS created FROM task
UNION ALL
SELECT task.id, waiting.id, false
FROM procrastinate_jobs AS waiting
LEFT JOIN pgjobs_task AS task ON task.job_id = waiting.id
WHERE waiting.queueing_lock = %(queueing_lock)s
  AND waiting.status = 'todo'
  AND NOT EXISTS (SELECT FROM job);
