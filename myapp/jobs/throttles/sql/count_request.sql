-- count_request: counts one request and says how it stands, in one statement. The row is locked
-- from the conflict to the commit, so each of any number of parallel requests reads a count of its
-- own. (Reading the count first and writing it after would let all that read the same one pass.)
-- Past the limit the count stands still, so that no flood can make it overflow.
INSERT INTO throttles_window AS held (scope, address, requests, ends_at)
VALUES (
    %(scope)s, %(address)s, 1,
    clock_timestamp() + make_interval(secs => %(window_seconds)s)
)
ON CONFLICT (scope, address) DO UPDATE SET
    requests = CASE
        WHEN held.ends_at <= clock_timestamp() THEN 1
        ELSE least(held.requests, %(limit)s) + 1
    END,
    ends_at = CASE
        WHEN held.ends_at <= clock_timestamp() THEN excluded.ends_at
        ELSE held.ends_at
    END
RETURNING
    requests <= %(limit)s AS may_pass,
    requests = 1 AS is_new,
    greatest(extract(epoch FROM ends_at - clock_timestamp()), 0)::float8 AS seconds_left;
