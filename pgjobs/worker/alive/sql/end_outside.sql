-- end_outside: Tasks whose job ended or vanished by another hand get their end; a piece of the
-- unfinished ones at a time, by the partial index on them, from `after_id` on. On the way: which jobs
-- of the piece wait, though they are due, for a function that is not among `names`.
-- A Task that was written to after this statement began is left for the next time: its job may wait
-- again.
-- Answers with the last id of the piece (null: it was the last), how many were ended, and of each
-- unknown name how many jobs wait and the oldest of them.
WITH clock AS MATERIALIZED (
    SELECT clock_timestamp() AS now
), piece AS MATERIALIZED (
    SELECT task.id, task.job_id, task.updated_at
    FROM pgjobs_task AS task
    WHERE task.end_status IS NULL AND task.id > %(after_id)s::uuid
    ORDER BY task.id LIMIT %(batch)s
), seen AS MATERIALIZED (
    SELECT
        piece.id, piece.updated_at, piece.job_id, job.status, job.attempts, job.task_name,
        job.queue_name, job.scheduled_at
    FROM piece
    LEFT JOIN procrastinate_jobs AS job ON job.id = piece.job_id
), ended AS (
    UPDATE pgjobs_task AS task
    SET end_status = (%(end_status)s::jsonb) ->> coalesce(seen.status::text, 'missing'),
        error = (%(errors)s::jsonb) -> coalesce(seen.status::text, 'missing'),
        attempts = coalesce(seen.attempts, task.attempts),
        finished_at = clock.now,
        updated_at = clock.now
    FROM seen, clock
    WHERE (seen.status IS NULL OR seen.status NOT IN ('todo', 'doing', 'aborting'))
      AND task.id = seen.id AND task.end_status IS NULL AND task.updated_at = seen.updated_at
    RETURNING task.id
), unknown AS (
    SELECT seen.task_name, count(*) AS jobs, min(seen.job_id) AS oldest
    FROM seen, clock
    WHERE seen.status = 'todo' AND (seen.scheduled_at IS NULL OR seen.scheduled_at <= clock.now)
      AND seen.task_name <> ALL(%(names)s::text[])
      AND (%(queues)s::text[] IS NULL OR seen.queue_name = ANY(%(queues)s))
    GROUP BY seen.task_name
)
SELECT
    CASE WHEN (SELECT count(*) FROM piece) = %(batch)s THEN (
        SELECT id FROM piece ORDER BY id DESC LIMIT 1
    ) END AS last_id,
    (SELECT count(*) FROM ended) AS ended,
    coalesce(
        (SELECT json_agg(json_build_array(task_name, jobs, oldest)) FROM unknown), '[]'
    ) AS unknown;
