-- count_open_alone: how many open tasks a user has, `limit` at most, while nobody else creates any for
-- them: until this transaction ends they wait. Two statements, as in count_open_beside_others.sql.
SELECT pg_advisory_xact_lock(hashtextextended('open tasks ' || %(owner_id)s::text, 0));
SELECT count(*)::int FROM (
    SELECT FROM tracking_task WHERE owner_id = %(owner_id)s AND end_status IS NULL LIMIT %(limit)s
) AS open;
