-- register: a worker under an id of its own choice, in Procrastinate's table and in ours. Ids are
-- random: a sequence gives its numbers again after a failover or a restore that lost rows.
-- Answers with when the server started and the first sign of life: claim.sql compares both.
WITH worker AS (
    INSERT INTO procrastinate_workers (id, last_heartbeat)
    OVERRIDING SYSTEM VALUE VALUES (%(worker_id)s, clock_timestamp())
    RETURNING id, last_heartbeat
), process AS (
    INSERT INTO pgjobs_workerprocess (id, name, has_session, token, started_at)
    SELECT id, %(name)s, %(has_session)s, %(token)s, clock_timestamp() FROM worker
)
SELECT pg_postmaster_start_time()::text, last_heartbeat::text FROM worker;
