-- home_summary: workers alive, jobs waiting (counted up to a limit) and running, and how long the
-- oldest ready job has waited, in seconds. Only waiting and running jobs are walked: the partial
-- index on (priority, id) where status = 'todo', and the one on worker_id where status = 'doing'.
SELECT
    split_part(current_setting('server_version'), ' ', 1),
    (SELECT count(*) FROM procrastinate_workers WHERE last_heartbeat > now() - interval '30 seconds'),
    (SELECT count(*) FROM (
        SELECT 1 FROM procrastinate_jobs WHERE status = 'todo' LIMIT %(count_limit)s
    ) AS waiting),
    (SELECT count(*) FROM procrastinate_jobs WHERE status = 'doing' AND worker_id IS NOT NULL),
    (SELECT extract(epoch FROM now() - event.at)::float8
     FROM procrastinate_events AS event
     WHERE event.type = 'deferred' AND event.job_id = (
        SELECT min(id) FROM (
            SELECT id FROM procrastinate_jobs
            WHERE status = 'todo' AND (scheduled_at IS NULL OR scheduled_at <= now())
            LIMIT %(count_limit)s
        ) AS ready
     )
     ORDER BY event.id LIMIT 1);
