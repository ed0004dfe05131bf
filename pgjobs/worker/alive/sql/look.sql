-- look: what this worker sees of itself and of the others; the reaper compares two looks.
--   workers: those of ours, each with its heartbeat as it is and whether its lock is free
--   held: the jobs running under this worker's ids, `stop` being those that were asked to stop
--   orphans: running jobs without a worker, in the queues given (null: all)
--   foreign: workers of the library that live, or run a job in those queues
--   notify_usage: how full the server's queue of notifications is, 0 to 1
--   oldest: the oldest transaction for whose sake dead rows are kept; dead_rows: how many there are
SELECT
    coalesce((
        SELECT json_agg(json_build_object(
            'id', process.id,
            'name', process.name,
            'heartbeat', worker.last_heartbeat::text,
            'lock_free', process.has_session AND NOT EXISTS (
                SELECT FROM pg_locks
                WHERE locktype = 'advisory' AND objsubid = 2 AND granted
                  AND classid = %(lock_class)s
                  AND objid = process.id %% 2147483647 + 1
                  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            )
        ))
        FROM pgjobs_workerprocess AS process
        LEFT JOIN procrastinate_workers AS worker ON worker.id = process.id
    ), '[]') AS workers,
    coalesce((
        SELECT json_agg(json_build_object(
            'id', id, 'worker_id', worker_id, 'attempts', attempts, 'stop', abort_requested
        ))
        FROM procrastinate_jobs
        WHERE status = 'doing' AND worker_id = ANY(%(worker_ids)s::bigint[])
    ), '[]') AS held,
    (
        SELECT count(*) FROM procrastinate_jobs
        WHERE status = 'doing' AND worker_id IS NULL
          AND (%(queues)s::text[] IS NULL OR queue_name = ANY(%(queues)s))
    ) AS orphans,
    coalesce((
        SELECT json_agg(id)
        FROM (
            SELECT id FROM procrastinate_workers
            WHERE last_heartbeat > clock_timestamp() - interval '1 minute'
            UNION
            SELECT worker_id FROM procrastinate_jobs
            WHERE status = 'doing' AND worker_id IS NOT NULL
              AND (%(queues)s::text[] IS NULL OR queue_name = ANY(%(queues)s))
        ) AS alive (id)
        WHERE NOT EXISTS (SELECT FROM pgjobs_workerprocess AS ours WHERE ours.id = alive.id)
    ), '[]') AS "foreign",
    pg_notification_queue_usage() AS notify_usage,
    (
        SELECT json_build_object('xid', xid::text, 'holder', holder)
        FROM (
            SELECT unnest(ARRAY[backend_xmin, backend_xid]) AS xid, 'session ' || pid AS holder
            FROM pg_stat_activity
            WHERE (datname = current_database() OR datname IS NULL)
              AND pid <> pg_backend_pid() AND backend_type <> 'autovacuum worker'
            UNION ALL
            SELECT transaction, 'prepared transaction ' || gid
            FROM pg_prepared_xacts WHERE database = current_database()
            UNION ALL
            SELECT xmin, 'replication slot ' || slot_name FROM pg_replication_slots
        ) AS held
        WHERE xid IS NOT NULL
        ORDER BY age(xid) DESC LIMIT 1
    ) AS oldest,
    pg_stat_get_dead_tuples('procrastinate_jobs'::regclass) AS dead_rows;
