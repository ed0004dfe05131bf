-- prune_jobs: one batch of ended jobs that have no Task (of schedules, of the command line) and
-- about which nothing happened since the cutoff; returns how many, twice, and the last id, as prune.
-- Oldest first by the primary key.
WITH old AS (
    SELECT job.id
    FROM procrastinate_jobs AS job
    WHERE job.id > %(last)s
      AND job.status NOT IN ('todo', 'doing')
      AND NOT EXISTS (SELECT FROM pgjobs_task AS task WHERE task.job_id = job.id)
      AND NOT EXISTS (
          SELECT FROM procrastinate_events AS event
          WHERE event.job_id = job.id AND event.at >= clock_timestamp() - %(age)s::interval
      )
    ORDER BY job.id
    LIMIT %(batch)s
    FOR UPDATE SKIP LOCKED
), jobs AS (
    DELETE FROM procrastinate_jobs USING old WHERE procrastinate_jobs.id = old.id
)
SELECT count(*), count(*), coalesce(max(id), %(last)s) FROM old;
