-- fill_key: notes what the request came to, in the transaction that took its key.
UPDATE pgjobs_api_key SET task_ids = %(task_ids)s::jsonb WHERE id = %(id)s;
