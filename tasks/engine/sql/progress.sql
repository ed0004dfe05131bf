-- progress: the latest reports of running jobs, as [[job_id, percent, message], ...], in one go.
-- Rows are locked in the order of job ids, as everywhere; an ended Task is left alone.
UPDATE tracking_task AS task
SET progress = report.percent, progress_message = report.message, updated_at = clock_timestamp()
FROM (
    SELECT locked.id, (item ->> 1)::smallint AS percent, item ->> 2 AS message
    FROM jsonb_array_elements(%(reports)s::jsonb) AS item
    JOIN LATERAL (
        SELECT id FROM tracking_task
        WHERE job_id = (item ->> 0)::bigint AND end_status IS NULL
        ORDER BY job_id
        FOR NO KEY UPDATE
    ) AS locked ON true
) AS report
WHERE task.id = report.id;
