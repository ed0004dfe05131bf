-- start: what the Task of a claimed job says; no row for a job that came by another door.
SELECT id, owner_id, correlation_id FROM tracking_task WHERE job_id = %(job_id)s;
