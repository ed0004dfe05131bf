-- heartbeat: no row means that this worker was declared dead.
UPDATE procrastinate_workers SET last_heartbeat = clock_timestamp()
WHERE id = %(worker_id)s
RETURNING id;
