-- unheld: which of these jobs could be written at once, since nobody holds their row or their Task's.
-- It waits for nobody, and what it locks is free again at its end.
-- The planner: two lists of ids, each a probe of the primary key, or of the Tasks' unique key.
WITH job AS MATERIALIZED (
    SELECT id FROM procrastinate_jobs
    WHERE id = ANY(%(job_ids)s::bigint[])
    ORDER BY id
    FOR NO KEY UPDATE SKIP LOCKED
), task AS MATERIALIZED (
    SELECT job_id FROM pgjobs_task
    WHERE job_id = ANY(%(job_ids)s::bigint[])
    FOR NO KEY UPDATE SKIP LOCKED
)
SELECT job.id FROM job
WHERE job.id IN (SELECT job_id FROM task)
   OR NOT EXISTS (SELECT FROM pgjobs_task WHERE job_id = job.id);
