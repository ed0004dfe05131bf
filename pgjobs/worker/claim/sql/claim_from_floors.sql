-- claim_from_floors: claims as claim.sql does, while vacuum is held up; answers in the same form.
--
-- For each queue and priority of `floors` (JSON, see floors.py), pgjobs_job_ready is read from the job
-- `id` on, past the dead rows before it. Other queues and priorities have no ready jobs that this worker
-- knows of. Everything but this part is the text of claim.sql, where its reasons stand; a test compares
-- the two.
-- The equality of the queue is written as an array of one, which bounds the scan like any equality,
-- but does not drop out of the order: otherwise an index on id alone would do.
WITH RECURSIVE mine AS MATERIALIZED (
    SELECT FROM (SELECT) AS always
    WHERE %(server)s::timestamptz IS NULL OR (
        pg_postmaster_start_time() = %(server)s::timestamptz
        AND EXISTS (
            SELECT FROM procrastinate_workers
            WHERE id = %(worker_id)s AND last_heartbeat >= %(beaten_at)s::timestamptz
        )
    )
),
-- ready, from floors
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
-- end of ready
due_group (queue_name, priority) AS (
    (
        SELECT queue_name, priority FROM procrastinate_jobs
        WHERE status = 'todo' AND lock IS NULL AND scheduled_at IS NOT NULL
        ORDER BY queue_name, priority, scheduled_at, id LIMIT 1
    )
    UNION ALL
    SELECT next.queue_name, next.priority
    FROM due_group
    CROSS JOIN LATERAL (
        SELECT queue_name, priority FROM procrastinate_jobs
        WHERE status = 'todo' AND lock IS NULL AND scheduled_at IS NOT NULL
          AND (queue_name, priority) > (due_group.queue_name, due_group.priority)
        ORDER BY queue_name, priority, scheduled_at, id LIMIT 1
    ) AS next
), look (step, lock, id, queue_name, task_name, priority, scheduled_at, is_ahead) AS (
    (
        SELECT 1, first.*
        FROM (
            (
                SELECT lock, id, queue_name, task_name, priority, scheduled_at, false AS is_ahead
                FROM procrastinate_jobs
                WHERE status = 'todo' AND lock IS NOT NULL
                  AND (scheduled_at IS NULL OR attempts > 0)
                  AND lock >= %(from_lock)s AND %(looks)s > 0
                ORDER BY lock, priority DESC, id LIMIT 1
            )
            UNION ALL
            (
                SELECT lock, id, queue_name, task_name, priority, scheduled_at, scheduled_at > now()
                FROM procrastinate_jobs
                WHERE status = 'todo' AND lock IS NOT NULL
                  AND scheduled_at IS NOT NULL AND attempts = 0
                  AND lock >= %(from_lock)s AND %(looks)s > 0
                ORDER BY lock, scheduled_at, id LIMIT 1
            )
        ) AS first
        ORDER BY lock, is_ahead, priority DESC, id LIMIT 1
    )
    UNION ALL
    SELECT look.step + 1, next.*
    FROM look
    CROSS JOIN LATERAL (
        SELECT * FROM (
            (
                SELECT lock, id, queue_name, task_name, priority, scheduled_at, false AS is_ahead
                FROM procrastinate_jobs
                WHERE status = 'todo' AND lock IS NOT NULL
                  AND (scheduled_at IS NULL OR attempts > 0) AND lock > look.lock
                ORDER BY lock, priority DESC, id LIMIT 1
            )
            UNION ALL
            (
                SELECT lock, id, queue_name, task_name, priority, scheduled_at, scheduled_at > now()
                FROM procrastinate_jobs
                WHERE status = 'todo' AND lock IS NOT NULL
                  AND scheduled_at IS NOT NULL AND attempts = 0 AND lock > look.lock
                ORDER BY lock, scheduled_at, id LIMIT 1
            )
        ) AS first
        ORDER BY lock, is_ahead, priority DESC, id LIMIT 1
    ) AS next
    WHERE look.step <= %(looks)s
), due AS MATERIALIZED (
    SELECT job.id, job.priority, job.task_name
    FROM due_group
    CROSS JOIN LATERAL (
        SELECT candidate.id, candidate.priority, candidate.task_name
        FROM (
            SELECT id, priority, task_name FROM procrastinate_jobs
            WHERE status = 'todo' AND lock IS NULL AND scheduled_at IS NOT NULL
              AND queue_name = due_group.queue_name AND priority = due_group.priority
              AND scheduled_at <= now()
            ORDER BY scheduled_at, id LIMIT %(window)s
        ) AS candidate
        CROSS JOIN LATERAL (
            SELECT status FROM procrastinate_jobs
            WHERE id = candidate.id
            FOR NO KEY UPDATE SKIP LOCKED
        ) AS free
        WHERE free.status::text = 'todo' AND candidate.task_name = ANY(%(names)s)
        LIMIT %(slots)s
    ) AS job
    WHERE %(queues)s::text[] IS NULL OR due_group.queue_name = ANY(%(queues)s)
), bar AS MATERIALIZED (
    SELECT priority, id FROM (TABLE ready UNION ALL TABLE due) AS free
    ORDER BY priority DESC, id OFFSET %(slots)s - 1 LIMIT 1
), head AS MATERIALIZED (
    SELECT look.id, look.priority, look.task_name
    FROM look
    CROSS JOIN LATERAL (
        SELECT status FROM procrastinate_jobs
        WHERE id = look.id
        FOR NO KEY UPDATE SKIP LOCKED
    ) AS free
    WHERE free.status::text = 'todo' AND look.step <= %(looks)s
      AND (%(queues)s::text[] IS NULL OR look.queue_name = ANY(%(queues)s))
      AND (look.scheduled_at IS NULL OR look.scheduled_at <= now())
      AND look.task_name = ANY(%(names)s)
      AND NOT EXISTS (
          SELECT FROM bar
          WHERE bar.priority > look.priority OR (bar.priority = look.priority AND bar.id < look.id)
      )
      AND NOT EXISTS (
          SELECT FROM procrastinate_jobs AS running
          WHERE running.status = 'doing' AND running.lock >= look.lock AND running.lock <= look.lock
          ORDER BY running.lock OFFSET 0
      )
), chosen AS MATERIALIZED (
    SELECT id
    FROM (
        SELECT
            id, priority, in_thread,
            row_number() OVER (PARTITION BY in_thread ORDER BY priority DESC, id) AS place
        FROM (
            SELECT id, priority, task_name = ANY(%(plain_names)s) AS in_thread
            FROM (TABLE ready UNION ALL TABLE due UNION ALL TABLE head) AS free
        ) AS free
    ) AS free
    WHERE place <= CASE WHEN in_thread THEN %(threads)s ELSE %(async_slots)s END
      AND EXISTS (SELECT FROM mine)
    ORDER BY priority DESC, id LIMIT %(slots)s
), claimed AS (
    UPDATE procrastinate_jobs AS job
    SET status = 'doing', worker_id = %(worker_id)s
    FROM chosen
    WHERE job.id = chosen.id
    RETURNING job.id, job.task_name, job.queue_name, job.priority, job.lock, job.queueing_lock,
        job.args,
        -- The times of Python begin in year 1.
        CASE WHEN job.scheduled_at < '0001-01-02 00:00+00' THEN '0001-01-02 00:00+00'
            ELSE job.scheduled_at END AS scheduled_at,
        job.attempts
)
SELECT
    job.*,
    task.id AS task_id, task.owner_id, task.permission, task.correlation_id,
    CASE WHEN job.attempts > 0 THEN pgjobs_attempts_since_retry(task.id, job.id, 'failed')
        ELSE 0 END AS failed_runs,
    clock_timestamp() AS started_at,
    CASE WHEN (SELECT count(*) FROM chosen) < %(slots)s THEN extract(epoch FROM (
        SELECT min(scheduled_at)
        FROM (
            SELECT first.scheduled_at
            FROM due_group
            CROSS JOIN LATERAL (
                SELECT scheduled_at FROM procrastinate_jobs
                WHERE status = 'todo' AND lock IS NULL AND scheduled_at IS NOT NULL
                  AND queue_name = due_group.queue_name AND priority = due_group.priority
                  AND scheduled_at > now()
                ORDER BY scheduled_at, id LIMIT 1
            ) AS first
            UNION ALL
            SELECT scheduled_at FROM look WHERE scheduled_at > now()
            UNION ALL
            SELECT ahead.scheduled_at
            FROM look
            CROSS JOIN LATERAL (
                SELECT scheduled_at FROM procrastinate_jobs
                WHERE status = 'todo' AND lock IS NOT NULL
                  AND scheduled_at IS NOT NULL AND attempts = 0
                  AND (lock, scheduled_at) > (look.lock, now()) AND lock <= look.lock
                ORDER BY lock, scheduled_at, id LIMIT 1
            ) AS ahead
        ) AS later
    ) - now())::float END AS next_due_in,
    (SELECT lock FROM look WHERE step = %(looks)s + 1) AS next_lock,
    EXISTS (SELECT FROM mine) AS is_known
FROM (SELECT) AS always
LEFT JOIN claimed AS job ON true
LEFT JOIN pgjobs_task AS task ON task.job_id = job.id
ORDER BY job.priority DESC, job.id;
