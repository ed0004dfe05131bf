-- end_sessions: end what a dead worker's task functions left: transactions that nobody ends, whose locks
-- others wait for. Its sessions carry its token in their name; a process that lives on under another id
-- keeps them. Those of other roles are left alone, which it may not end.
-- The planner: chosen first, since a condition may be asked before the others of its level.
WITH chosen AS MATERIALIZED (
    SELECT session.pid
    FROM pgjobs_workerprocess AS dead
    JOIN pg_stat_activity AS session
      ON session.application_name LIKE '%% ' || dead.token
     AND session.datname = current_database()
     AND session.usename = current_user
    WHERE dead.id = %(worker_id)s
      AND dead.token <> ''
      AND NOT EXISTS (
          SELECT FROM pgjobs_workerprocess AS alive
          WHERE alive.token = dead.token AND alive.id <> dead.id
      )
)
SELECT pid FROM chosen WHERE pg_terminate_backend(pid);
