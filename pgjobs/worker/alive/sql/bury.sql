-- bury: a dead worker leaves the registry, once no job runs under its id. A row that somebody holds
-- would hold up this delete, too, whose foreign key reaches for the jobs; the next look tries again.
WITH gone AS (
    DELETE FROM procrastinate_workers
    WHERE id = %(worker_id)s
      AND NOT EXISTS (
          SELECT FROM procrastinate_jobs WHERE status = 'doing' AND worker_id = %(worker_id)s
      )
    RETURNING id
)
DELETE FROM pgjobs_workerprocess
WHERE id = %(worker_id)s
  AND (
      id IN (SELECT id FROM gone)
      OR NOT EXISTS (SELECT FROM procrastinate_workers WHERE id = %(worker_id)s)
  );
