-- complete_atomic: the end of a run that succeeded, in the transaction of its effects: complete.sql for
-- the one case that is hot there, without its groups. No row: the run is stale, and the caller rolls
-- back. `status` is compared as text and `end_status` through coalesce, which keeps partial indexes out.
WITH job AS (
    UPDATE procrastinate_jobs
    SET status = %(status)s, attempts = attempts + 1, worker_id = NULL, abort_requested = false
    WHERE id = %(job_id)s
      AND status::text = 'doing'
      AND worker_id IS NOT DISTINCT FROM %(worker_id)s
      AND attempts = %(run_number)s - 1
      AND coalesce((
          SELECT id IS NOT DISTINCT FROM %(task_id)s::uuid
          FROM pgjobs_task WHERE job_id = %(job_id)s
      ), true)
    RETURNING id
), task AS (
    UPDATE pgjobs_task
    SET end_status = %(end_status)s,
        result = %(result)s::jsonb,
        progress = %(progress)s,
        progress_message = coalesce(%(progress_message)s, progress_message),
        related_id = coalesce(related_id, %(related_id)s),
        attempts = %(run_number)s,
        started_at = %(started_at)s,
        finished_at = clock.now,
        updated_at = clock.now
    FROM (SELECT clock_timestamp() AS now OFFSET 0) AS clock, job
    WHERE pgjobs_task.job_id = job.id AND coalesce(end_status, '') = ''
)
SELECT id FROM job;
