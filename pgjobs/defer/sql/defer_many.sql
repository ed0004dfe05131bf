-- defer_many: jobs and their Tasks in one statement. They have all in common but what is in `items`,
-- a JSON array of {task_id, lock, related_id, arguments, input_data}; input_data is left out where
-- it is the arguments. Gives the jobs' ids in the order of the items.
-- The order of RETURNING is nobody's promise: each item is given its job's id here, in order, since
-- jobs with the same lock run by their ids, and both rows are made from it.
WITH clock AS MATERIALIZED (
    SELECT clock_timestamp() AS now  -- read once: all are accepted, and due, at one moment
), item AS MATERIALIZED (
    SELECT nextval('procrastinate_jobs_id_seq') AS job_id, given.*
    FROM (
        SELECT *
        FROM ROWS FROM (
            jsonb_to_recordset(%(items)s::jsonb) AS (
                task_id uuid, lock text, related_id text, arguments jsonb, input_data jsonb
            )
        ) WITH ORDINALITY AS one (task_id, lock, related_id, arguments, input_data, number)
        ORDER BY number
    ) AS given
), job AS (
    INSERT INTO procrastinate_jobs (
        id, queue_name, task_name, priority, lock, args, scheduled_at
    )
    SELECT
        item.job_id, %(queue_name)s, %(task_name)s, %(priority)s, item.lock, item.arguments,
        coalesce(%(schedule_at)s::timestamptz, clock.now + %(schedule_in)s::interval)
    FROM item, clock
), task AS (
    INSERT INTO pgjobs_task (
        id, job_id, task_name, queue_name, input_data, related_table, related_id, operation,
        owner_id, permission, correlation_id, progress, attempts, created_at, updated_at
    )
    SELECT
        item.task_id, item.job_id, %(task_name)s, %(queue_name)s,
        coalesce(item.input_data, item.arguments), %(related_table)s, item.related_id,
        %(operation)s, %(owner_id)s, %(permission)s, %(correlation_id)s, 0, 0, clock.now, clock.now
    FROM item, clock
), tagged AS (
    -- No row for a job without tags.
    INSERT INTO pgjobs_tag (task_id, name, owner_id)
    SELECT item.task_id, name, %(owner_id)s
    FROM item, unnest(%(tags)s::text[]) AS name
)
SELECT job_id FROM item ORDER BY number;
