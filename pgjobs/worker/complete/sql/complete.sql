-- complete: jobs leave `doing`, each with its Task and, for a run that failed, its Attempt; all in one
-- statement, or none of it. Answers with the rows that were written, what is missing was stale; and
-- with what became of a job `instead` of going back to `todo`.
--
-- The fence: job, worker, run number and Task must be what they were at the claim. Who was declared dead,
-- or writes twice, finds another run number and changes nothing. Numbers of jobs and runs come again
-- after a failover or a restore that lost rows; ids of workers and Tasks do not. A Task that somebody
-- deleted meanwhile does not count.
-- Locks are taken in one order everywhere: job rows by id, then Tasks, then Attempts. `held` locks by
-- id, and `written` counts, which is to say that all jobs are written before the first Task is touched.
-- A job that should go back to `todo` but is asked to stop is aborted instead, and one whose workers
-- died or stopped too often is failed: no way back to `todo` is without a bound. The policy of a task
-- bounds its failures; crashes and hand-backs are counted here, by the Attempts since the job was last
-- sent back by hand. A job without a Task has no Attempts: all its runs count as crashes then, since
-- nothing else bounds those, and its hand-backs have no bound.
-- The planner: the sorted outcomes drive a LATERAL, whose lock keeps it from being flattened, so that
-- each job is one probe of the primary key, in the order of ids; the Tasks follow by their unique key.
-- `status` is compared as text, and `end_status` through coalesce: else partial indexes could be read
-- from end to end for each outcome, which look empty to statistics taken while nothing ran.
WITH clock AS MATERIALIZED (
    SELECT clock_timestamp() AS now  -- read once: one moment for the job and its Task
), held AS MATERIALIZED (
    SELECT
        outcome.*,
        CASE
            WHEN outcome.status <> 'todo' THEN NULL
            WHEN job.abort_requested THEN 'stopped'
            WHEN outcome.attempt_kind IN ('crashed', 'handed_back')
             AND (
                 SELECT CASE WHEN task.id IS NULL THEN
                     CASE outcome.attempt_kind WHEN 'crashed' THEN job.attempts ELSE 0 END
                 ELSE pgjobs_attempts_since_retry(task.id, outcome.job_id, outcome.attempt_kind)
                 END
                 FROM (SELECT) AS always
                 LEFT JOIN pgjobs_task AS task ON task.job_id = outcome.job_id
             ) + 1 >= CASE outcome.attempt_kind
                 WHEN 'crashed' THEN %(max_crashes)s ELSE %(max_hand_backs)s
             END THEN 'spent'
        END AS instead  -- of going back to `todo`
    FROM (
        SELECT * FROM json_to_recordset(%(outcomes)s::json) AS outcome (
            job_id bigint, worker_id bigint, run_number integer, task_id uuid,
            -- the job
            status procrastinate_job_status, delete_job boolean,
            retry_in float, retry_at timestamptz,
            priority integer, queue_name text, lock text,
            -- its Task
            end_status text, result text, error text, progress smallint, progress_message text,
            related_id text, started_at timestamptz,
            -- the Attempt
            attempt_kind text, worker_name text, error_class text, message text, traceback text
        )
        ORDER BY job_id
    ) AS outcome
    CROSS JOIN LATERAL (
        SELECT status, worker_id, attempts, abort_requested
        FROM procrastinate_jobs
        WHERE id = outcome.job_id
        FOR NO KEY UPDATE
    ) AS job
    WHERE job.status::text = 'doing'
      AND job.worker_id IS NOT DISTINCT FROM outcome.worker_id
      AND job.attempts = outcome.run_number - 1
      AND coalesce((
          SELECT id IS NOT DISTINCT FROM outcome.task_id
          FROM pgjobs_task WHERE job_id = outcome.job_id
      ), true)
), moved AS (
    UPDATE procrastinate_jobs AS job
    SET status = CASE held.instead
            WHEN 'stopped' THEN %(aborted)s WHEN 'spent' THEN %(failed)s ELSE held.status
        END,
        attempts = job.attempts + 1,
        worker_id = NULL,
        abort_requested = false,
        scheduled_at = CASE
            WHEN held.status = 'todo' AND held.instead IS NULL
            THEN coalesce(
                held.retry_at, clock.now + make_interval(secs => held.retry_in), job.scheduled_at
            )
            ELSE job.scheduled_at
        END,
        priority = coalesce(held.priority, job.priority),
        queue_name = coalesce(held.queue_name, job.queue_name),
        lock = coalesce(held.lock, job.lock)
    FROM held, clock
    WHERE job.id = held.job_id AND NOT held.delete_job
    RETURNING job.id
), deleted AS (
    DELETE FROM procrastinate_jobs AS job
    USING held
    WHERE job.id = held.job_id AND held.delete_job
    RETURNING job.id
), written AS MATERIALIZED (
    SELECT count(*) AS jobs FROM (TABLE moved UNION ALL TABLE deleted) AS job
), told AS (
    UPDATE pgjobs_task AS task
    SET end_status = CASE held.instead
            WHEN 'stopped' THEN %(cancelled)s WHEN 'spent' THEN %(spent)s ELSE held.end_status
        END,
        result = held.result::jsonb,
        error = CASE held.instead
            WHEN 'stopped' THEN %(cancelled_error)s::jsonb
            WHEN 'spent' THEN %(spent_errors)s::jsonb -> held.attempt_kind
            ELSE held.error::jsonb
        END,
        progress = CASE WHEN held.status = 'todo' AND held.instead IS NULL THEN 0
                        ELSE coalesce(held.progress, task.progress) END,
        progress_message = CASE WHEN held.status = 'todo' AND held.instead IS NULL THEN ''
                                ELSE coalesce(held.progress_message, task.progress_message) END,
        related_id = coalesce(task.related_id, held.related_id),
        attempts = held.run_number,
        started_at = CASE WHEN held.status = 'todo' AND held.instead IS NULL THEN task.started_at
                          ELSE held.started_at END,
        finished_at = CASE WHEN held.status <> 'todo' OR held.instead IS NOT NULL THEN clock.now END,
        updated_at = clock.now
    FROM held, clock, written
    WHERE task.job_id = held.job_id AND coalesce(task.end_status, '') = ''
), attempted AS (
    INSERT INTO pgjobs_attempt (
        task_id, number, kind, worker_name, error_class, message, traceback, started_at, finished_at
    )
    -- Of a Task that has ended, too: a job that was sent back from its end is counted all the same.
    SELECT
        task.id, held.run_number, held.attempt_kind, held.worker_name, held.error_class,
        held.message, held.traceback, held.started_at, clock.now
    FROM held, clock, written, pgjobs_task AS task
    WHERE held.attempt_kind IS NOT NULL AND task.job_id = held.job_id
)
SELECT held.job_id, held.instead FROM held;
