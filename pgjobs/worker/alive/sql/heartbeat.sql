-- heartbeat: the ids under which this worker lives, each with its new sign of life. One that is
-- missing was declared dead; or the rows were put back to an earlier time, before the last sign of life
-- that it knows to be written (`beaten_at`).
UPDATE procrastinate_workers AS worker SET last_heartbeat = clock_timestamp()
FROM unnest(%(worker_ids)s::bigint[], %(beaten_at)s::timestamptz[]) AS known (id, beaten_at)
WHERE worker.id = known.id AND worker.last_heartbeat >= known.beaten_at
RETURNING worker.id, worker.last_heartbeat::text;
