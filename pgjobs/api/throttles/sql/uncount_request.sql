-- uncount_request: takes one request back out of each of these windows, while they last.
-- Rows are locked in the order in which count_request locks them: as they are given.
WITH held AS MATERIALIZED (
    SELECT own.id
    FROM unnest(%(scopes)s::text[], %(callers)s::text[]) WITH ORDINALITY AS one (scope, caller, number)
    CROSS JOIN LATERAL (
        SELECT id FROM pgjobs_api_window
        WHERE scope = one.scope AND caller = one.caller
          AND requests > 0 AND ends_at > clock_timestamp()
        FOR NO KEY UPDATE
    ) AS own
)
UPDATE pgjobs_api_window AS counted
SET requests = counted.requests - 1
FROM held
WHERE counted.id = held.id;
