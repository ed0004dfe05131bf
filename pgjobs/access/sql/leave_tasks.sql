-- leave_tasks: cancels what waits for a user who was deleted, and takes them off their Tasks.
-- The key is taken from a row: there it has its type.
SELECT pgjobs_leave_tasks(owner_id)
FROM (SELECT owner_id FROM pgjobs_task WHERE owner_id = %(owner_id)s LIMIT 1) AS one;
