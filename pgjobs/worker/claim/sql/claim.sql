-- claim: up to `slots` jobs become ours, in one statement; priority first, then the oldest.
--
-- What may run is in three places, each a partial index that holds nothing else:
--   ready  no lock, no time: pgjobs_job_ready, read in order for each queue that has any; while
--          vacuum is held up, claim_from_floors.sql reads them otherwise
--   due    a time, which has come: pgjobs_job_due, the first ones of each queue and priority
--   heads  the first job of a lock, if nothing of that lock runs: pgjobs_job_lock_line and
--          pgjobs_job_lock_due, hopping from lock to lock (a loose index scan), `looks` locks a
--          claim from `from_lock` on; the next claim goes on from there, so that ten thousand waiting
--          locks slow nobody down; no row is locked for a head that comes after the last of `slots`
--          free jobs (`bar`)
-- A job that is scheduled and never ran stands in its lock's line (pgjobs_job_lock_line) no sooner
-- than it is due: until then those behind it go first. Once it ran, a later time is a retry or a
-- snooze, for which the others wait.
-- Queues and locks are hopped through with `> last ORDER BY ... LIMIT 1`: one index probe each.
-- The equality of a ready queue is written as two bounds: equal to a constant, the column would drop
-- out of the order, and Procrastinate's index on (priority, id) would do, which walks everything.
-- What runs under a lock is asked for each, in the order of the index on it (ORDER BY, OFFSET 0): a
-- planner that believes that nothing waits or runs would read all that does, by any index, for each.
-- The `status` of a job found is compared as text, so that the primary key is probed and no partial
-- index that looks short. Jobs that somebody else is claiming are stepped over. A job whose name this
-- worker has no function for (`names`) waits for one that has. Plain functions run in threads, of
-- which `threads` are free, async ones in `async_slots`. `window` bounds how far a worker looks that
-- is full of one kind.
--
-- Always answers with one row at least: its `next_due_in` (seconds until a job falls due) and
-- `next_lock` (null: the last lock was seen) stand beside a null id when nothing was claimed.
--
-- The fence: nothing is claimed (`is_known` is false) under an id that is not registered, or was at
-- another `server` (by when it started; null: not asked), or whose last sign of life is earlier than one
-- that is known to have been written: rows were lost then, and their numbers may be given again.
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
-- ready, from the beginning
queue (name) AS (
    (
        SELECT queue_name FROM procrastinate_jobs
        WHERE status = 'todo' AND lock IS NULL AND scheduled_at IS NULL
        ORDER BY queue_name, priority DESC, id LIMIT 1
    )
    UNION ALL
    SELECT next.queue_name
    FROM queue
    CROSS JOIN LATERAL (
        SELECT queue_name FROM procrastinate_jobs
        WHERE status = 'todo' AND lock IS NULL AND scheduled_at IS NULL AND queue_name > queue.name
        ORDER BY queue_name, priority DESC, id LIMIT 1
    ) AS next
), ready AS MATERIALIZED (
    SELECT job.id, job.priority, job.task_name
    FROM queue
    CROSS JOIN LATERAL (
        SELECT candidate.id, candidate.priority, candidate.task_name
        FROM (
            SELECT id, priority, task_name FROM procrastinate_jobs
            WHERE status = 'todo' AND lock IS NULL AND scheduled_at IS NULL
              AND queue_name >= queue.name AND queue_name <= queue.name
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
    WHERE %(queues)s::text[] IS NULL OR queue.name = ANY(%(queues)s)
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
