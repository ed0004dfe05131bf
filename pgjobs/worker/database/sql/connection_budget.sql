-- connection_budget: each limit of the connections this role may hold here, and how many of them are
-- free now. A role or a database without a limit has none here; no superuser obeys theirs.
-- Sessions of other roles show their role and database to everybody, but not their kind: what has
-- both is a client's.
WITH me AS (
    SELECT oid, rolsuper, rolconnlimit FROM pg_roles WHERE rolname = session_user
), here AS (
    SELECT oid, datconnlimit FROM pg_database WHERE datname = current_database()
), session AS MATERIALIZED (
    SELECT usesysid, datid FROM pg_stat_activity WHERE usesysid IS NOT NULL AND datid IS NOT NULL
)
SELECT 'the server' AS who, allowed, allowed - (SELECT count(*) FROM session)::int AS free
FROM (
    SELECT current_setting('max_connections')::int
         - CASE WHEN rolsuper THEN 0
                ELSE current_setting('superuser_reserved_connections')::int END
         - CASE WHEN rolsuper THEN 0  -- from Postgres 16 on
                ELSE coalesce(current_setting('reserved_connections', true)::int, 0) END AS allowed
    FROM me
) AS server
UNION ALL
SELECT 'the role ' || session_user, rolconnlimit,
    rolconnlimit - (SELECT count(*) FROM session WHERE usesysid = me.oid)::int
FROM me WHERE rolconnlimit >= 0 AND NOT rolsuper
UNION ALL
SELECT 'the database ' || current_database(), datconnlimit,
    datconnlimit - (SELECT count(*) FROM session WHERE datid = here.oid)::int
FROM here, me WHERE datconnlimit >= 0 AND NOT rolsuper;
