-- floors: the first ready job of each queue and priority, found by walking past all dead rows; what a
-- claim does by itself while vacuum is free. See floors.py.
--   first: at most `most` of them, as JSON; of tasks that this worker has a function for (`names`),
--          since a job that waits for a function would hold its floor down
--   last_id: no job is newer; a queue and priority without a first job has none up to this id
-- From one queue and priority to the next by `< last` and `> last`, one index probe each, and the
-- equality of a queue as two bounds: as in claim.sql.
WITH RECURSIVE first (queue_name, priority, id) AS (
    (
        SELECT queue_name, priority, id FROM procrastinate_jobs
        WHERE status = 'todo' AND lock IS NULL AND scheduled_at IS NULL
          AND task_name = ANY(%(names)s)
        ORDER BY queue_name, priority DESC, id LIMIT 1
    )
    UNION ALL
    SELECT next.queue_name, next.priority, next.id
    FROM first
    CROSS JOIN LATERAL (
        (
            SELECT queue_name, priority, id FROM procrastinate_jobs
            WHERE status = 'todo' AND lock IS NULL AND scheduled_at IS NULL
              AND task_name = ANY(%(names)s)
              AND queue_name >= first.queue_name AND queue_name <= first.queue_name
              AND priority < first.priority
            ORDER BY queue_name, priority DESC, id LIMIT 1
        )
        UNION ALL
        (
            SELECT queue_name, priority, id FROM procrastinate_jobs
            WHERE status = 'todo' AND lock IS NULL AND scheduled_at IS NULL
              AND task_name = ANY(%(names)s)
              AND queue_name > first.queue_name
            ORDER BY queue_name, priority DESC, id LIMIT 1
        )
        LIMIT 1
    ) AS next
)
SELECT
    (
        SELECT json_agg(json_build_array(queue_name, priority, id))
        FROM (SELECT queue_name, priority, id FROM first LIMIT %(most)s) AS listed
    ) AS first,
    (SELECT max(id) FROM procrastinate_jobs) AS last_id;
