-- end_what_waits: cancels what waits for a user, as the trigger on their table does (migration 0012).
-- The key is taken from a row: there it has its type.
SELECT pgjobs_end_what_waits_of(owner_id)
FROM (SELECT owner_id FROM pgjobs_task WHERE owner_id = %(owner_id)s LIMIT 1) AS one;
