-- declare_dead: lock a worker's row if its heartbeat still is the one that was seen; no row: it lives,
-- or somebody else was first.
SELECT id FROM procrastinate_workers
WHERE id = %(worker_id)s AND last_heartbeat::text = %(heartbeat)s
FOR UPDATE;
