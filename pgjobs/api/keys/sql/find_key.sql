-- find_key: what a key stands for, by the unique index; and whether any of its Tasks is still kept.
SELECT
    fingerprint, task_ids,
    EXISTS (
        SELECT FROM pgjobs_task
        -- As an array: the primary key is asked for each, however many tasks there are.
        WHERE id = ANY (ARRAY(SELECT value::uuid FROM jsonb_array_elements_text(task_ids)))
    )
FROM pgjobs_api_key
WHERE caller = %(caller)s AND key = %(key)s;
