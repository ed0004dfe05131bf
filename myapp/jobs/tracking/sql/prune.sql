-- prune: one batch of Tasks that ended before the cutoff, with their jobs and attempts; returns how
-- many. Oldest first by the partial index on finished_at; rows somebody holds are left for later.
WITH old AS (
    SELECT id, job_id
    FROM tracking_task
    WHERE finished_at < clock_timestamp() - %(age)s::interval
    ORDER BY finished_at
    LIMIT %(batch)s
    FOR UPDATE SKIP LOCKED
), jobs AS (
    DELETE FROM procrastinate_jobs USING old
    WHERE procrastinate_jobs.id = old.job_id AND procrastinate_jobs.status NOT IN ('todo', 'doing')
), attempts AS (
    DELETE FROM tracking_attempt USING old WHERE tracking_attempt.task_id = old.id
), tasks AS (
    DELETE FROM tracking_task USING old WHERE tracking_task.id = old.id
)
SELECT count(*) FROM old;
