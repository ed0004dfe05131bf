-- progress: the latest reports of running jobs, as [[job_id, attempt, percent, message, task_id], ...].
-- The attempt is the fence: a report of a run that has ended, which its retry or its end overtook,
-- finds that many attempts on the Task already and changes nothing. The check is on the row that is
-- locked, so it is made again after a wait. The Task is compared, too (none given: not asked), since the
-- number of a job whose rows were lost may be another's by now. Rows are locked in the order of job ids.
-- The coalesce keeps the partial index on unfinished Tasks out, which may look short.
-- Who follows one of these Tasks is told, once for all of them.
WITH told AS (
    UPDATE pgjobs_task AS task
    SET progress = report.percent, progress_message = report.message,
        updated_at = clock_timestamp()
    FROM (
        SELECT locked.id, (item ->> 2)::smallint AS percent, item ->> 3 AS message
        FROM jsonb_array_elements(%(reports)s::jsonb) AS item
        JOIN LATERAL (
            SELECT id FROM pgjobs_task
            WHERE job_id = (item ->> 0)::bigint
              AND coalesce(id = (item ->> 4)::uuid, true)
              AND attempts < (item ->> 1)::integer
              AND coalesce(end_status, '') = ''
            FOR NO KEY UPDATE
        ) AS locked ON true
    ) AS report
    WHERE task.id = report.id
    RETURNING task.id
)
SELECT pgjobs_tell_followers() WHERE EXISTS (SELECT FROM told);
