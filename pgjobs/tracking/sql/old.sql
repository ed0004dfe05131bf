-- old: how many Tasks ended before the cutoff, by the partial index on finished_at; counts to `most`.
SELECT count(*)
FROM (
    SELECT FROM pgjobs_task
    WHERE finished_at < clock_timestamp() - %(age)s::interval
    LIMIT %(most)s
) AS old;
