-- ready, from floors: a part of claim.sql while vacuum is held up. For each queue and priority of
-- `floors` (JSON, see floors.py), pgjobs_job_ready is read from the job `id` on, past the dead rows
-- before it. Other queues and priorities have no ready jobs that this worker knows of.
-- The equality of the queue is written as an array of one, which bounds the scan like any equality,
-- but does not drop out of the order: otherwise an index on id alone would do.
ready AS MATERIALIZED (
    SELECT job.id, job.priority, job.task_name
    FROM jsonb_to_recordset(%(floors)s) AS floor (queue_name text, priority integer, id bigint)
    CROSS JOIN LATERAL (
        SELECT candidate.id, candidate.priority, candidate.task_name
        FROM (
            SELECT id, priority, task_name FROM procrastinate_jobs
            WHERE status = 'todo' AND lock IS NULL AND scheduled_at IS NULL
              AND queue_name = ANY(ARRAY[floor.queue_name]) AND priority = floor.priority
              AND id >= floor.id
            ORDER BY queue_name, priority DESC, id LIMIT %(window)s
        ) AS candidate
        CROSS JOIN LATERAL (
            SELECT status FROM procrastinate_jobs
            WHERE id = candidate.id
            FOR NO KEY UPDATE SKIP LOCKED
        ) AS free
        WHERE free.status::text = 'todo' AND candidate.task_name = ANY(%(names)s)
        LIMIT %(slots)s
    ) AS job
    WHERE %(queues)s::text[] IS NULL OR floor.queue_name = ANY(%(queues)s)
),
