-- count_request: counts one request, or what it weighs, in its caller's window, then, if that lets it
-- pass, in a wider one (null scope: there is none), and says how they stand; in one statement. Each row
-- is locked from the conflict to the commit, so each of any number of parallel requests reads a count of
-- its own. (Reading the count first and writing it after would let all that read the same one pass.)
-- The second INSERT reads the first, so the rows are locked in one order everywhere: narrow, then wide.
-- A window that is seen full refuses at once: a count falls while its window lasts only by what
-- uncount_request takes back, so what an old snapshot shows as full is, or was just now. A flood writes
-- nothing then, and what one window refuses does not use up the other. Rows: scope, requests counted,
-- whether this one is the first, seconds to the end.
WITH full_already AS MATERIALIZED (
    SELECT scope, requests + 1 AS requests, false AS is_new, ends_at
    FROM pgjobs_api_window
    WHERE (
        (scope = %(scope)s AND caller = %(caller)s AND requests >= %(limit)s)
        OR (scope = %(wide_scope)s AND caller = %(wide_caller)s AND requests >= %(wide_limit)s)
    ) AND ends_at > clock_timestamp()
), narrow AS (
    INSERT INTO pgjobs_api_window AS held (scope, caller, requests, ends_at)
    SELECT
        %(scope)s, %(caller)s, %(weight)s, clock_timestamp() + make_interval(secs => %(window_seconds)s)
    WHERE NOT EXISTS (SELECT FROM full_already)
    ON CONFLICT (scope, caller) DO UPDATE SET
        requests = CASE
            WHEN held.ends_at <= clock_timestamp() THEN %(weight)s
            ELSE least(held.requests, %(limit)s) + %(weight)s
        END,
        ends_at = CASE
            WHEN held.ends_at <= clock_timestamp() THEN excluded.ends_at
            ELSE held.ends_at
        END
    RETURNING scope, requests, requests = %(weight)s AS is_new, ends_at
), wide AS (
    INSERT INTO pgjobs_api_window AS held (scope, caller, requests, ends_at)
    SELECT
        %(wide_scope)s, %(wide_caller)s, %(wide_weight)s,
        clock_timestamp() + make_interval(secs => %(wide_window_seconds)s)
    FROM narrow
    WHERE narrow.requests <= %(limit)s AND %(wide_scope)s::text IS NOT NULL
    ON CONFLICT (scope, caller) DO UPDATE SET
        requests = CASE
            WHEN held.ends_at <= clock_timestamp() THEN %(wide_weight)s
            ELSE least(held.requests, %(wide_limit)s) + %(wide_weight)s
        END,
        ends_at = CASE
            WHEN held.ends_at <= clock_timestamp() THEN excluded.ends_at
            ELSE held.ends_at
        END
    RETURNING scope, requests, requests = %(wide_weight)s AS is_new, ends_at
)
SELECT
    scope, requests, is_new,
    greatest(extract(epoch FROM ends_at - clock_timestamp()), 0)::float8 AS seconds_left
FROM (TABLE narrow UNION ALL TABLE wide UNION ALL TABLE full_already) AS counted;
