-- connection_budget: connections an ordinary role may hold in all, and how many are free now.
SELECT
    limits.allowed,
    limits.allowed - (
        SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'
    )::int AS free
FROM (
    SELECT current_setting('max_connections')::int
         - current_setting('superuser_reserved_connections')::int AS allowed
) AS limits;
