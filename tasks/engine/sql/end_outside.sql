-- end_outside: Tasks whose job ended or vanished by another hand get their end; a piece of the
-- unfinished ones at a time, by the partial index on them, from `after_id` on.
-- A Task that was written to after this statement began is left for the next time: its job may wait
-- again.
-- Answers with the last id of the piece (null: it was the last) and how many were ended.
WITH clock AS MATERIALIZED (
    SELECT clock_timestamp() AS now
), piece AS MATERIALIZED (
    SELECT task.id, task.job_id, task.updated_at
    FROM tracking_task AS task
    WHERE task.end_status IS NULL AND task.id > %(after_id)s::uuid
    ORDER BY task.id LIMIT %(batch)s
), over AS MATERIALIZED (
    SELECT piece.id, piece.updated_at, job.status, job.attempts
    FROM piece
    LEFT JOIN procrastinate_jobs AS job ON job.id = piece.job_id
    WHERE job.id IS NULL OR job.status NOT IN ('todo', 'doing', 'aborting')
), ended AS (
    UPDATE tracking_task AS task
    SET end_status = (%(end_status)s::jsonb) ->> coalesce(over.status::text, 'missing'),
        error = (%(errors)s::jsonb) -> coalesce(over.status::text, 'missing'),
        attempts = coalesce(over.attempts, task.attempts),
        finished_at = clock.now,
        updated_at = clock.now
    FROM over, clock
    WHERE task.id = over.id AND task.end_status IS NULL AND task.updated_at = over.updated_at
    RETURNING task.id
)
SELECT
    CASE WHEN (SELECT count(*) FROM piece) = %(batch)s THEN (
        SELECT id FROM piece ORDER BY id DESC LIMIT 1
    ) END AS last_id,
    (SELECT count(*) FROM ended) AS ended;
