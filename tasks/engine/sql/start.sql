-- start: the time by this server's clock, and what the Task of a claimed job says; null for a job
-- that came by another door.
SELECT clock_timestamp() AS started_at, task.id, task.owner_id, task.correlation_id
FROM (SELECT 1) AS always
LEFT JOIN tracking_task AS task ON task.job_id = %(job_id)s;
