-- timeline: which server this is, and the number of the history it writes, which each promotion of a
-- standby raises. A standby writes none: NULL. Both are read from memory or one small file; no
-- privilege is needed.
SELECT system_identifier,
       CASE WHEN NOT pg_is_in_recovery()
            THEN ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint
       END AS timeline
FROM pg_control_system();
