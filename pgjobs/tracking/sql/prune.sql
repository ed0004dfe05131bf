-- prune: one batch of Tasks that ended before the cutoff, with their jobs and attempts; returns how
-- many were found, how many of them went, and when the last of them had ended: the next batch begins
-- there, past what went before, which stays in the index until vacuum may remove it.
-- Oldest first by the partial index on finished_at;
-- rows somebody holds are left for later, and so is a Task whose job somebody holds, who may be
-- about to retry it. Nothing is waited for: whoever retries locks the job first and then the Task,
-- here it is the other way round.
WITH old AS MATERIALIZED (
    SELECT id, job_id, finished_at
    FROM pgjobs_task
    WHERE finished_at >= %(last)s::timestamptz
      AND finished_at < clock_timestamp() - %(age)s::interval
    ORDER BY finished_at
    LIMIT %(batch)s
    FOR UPDATE SKIP LOCKED
), free AS MATERIALIZED (
    SELECT job.id
    FROM old
    CROSS JOIN LATERAL (
        SELECT id FROM procrastinate_jobs WHERE id = old.job_id FOR UPDATE SKIP LOCKED
    ) AS job
), gone AS MATERIALIZED (
    SELECT id, job_id
    FROM old
    WHERE job_id IN (SELECT id FROM free)
       OR NOT EXISTS (SELECT FROM procrastinate_jobs AS job WHERE job.id = old.job_id)
), jobs AS (
    -- A job that was sent back from its end waits or runs: it stays.
    DELETE FROM procrastinate_jobs USING gone
    WHERE procrastinate_jobs.id = gone.job_id AND procrastinate_jobs.status NOT IN ('todo', 'doing')
), attempts AS (
    DELETE FROM pgjobs_attempt USING gone WHERE pgjobs_attempt.task_id = gone.id
), tags AS (
    DELETE FROM pgjobs_tag USING gone WHERE pgjobs_tag.task_id = gone.id
), tasks AS (
    DELETE FROM pgjobs_task USING gone WHERE pgjobs_task.id = gone.id
)
SELECT (SELECT count(*) FROM old), (SELECT count(*) FROM gone),
       coalesce((SELECT max(finished_at) FROM old), %(last)s::timestamptz)::text;
