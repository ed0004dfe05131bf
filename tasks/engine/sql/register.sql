-- register: a new worker, in Procrastinate's table and in ours.
WITH worker AS (
    INSERT INTO procrastinate_workers DEFAULT VALUES RETURNING id
)
INSERT INTO workers_workerprocess (id, name, has_session, started_at)
SELECT id, %(name)s, %(has_session)s, clock_timestamp() FROM worker
RETURNING id;
