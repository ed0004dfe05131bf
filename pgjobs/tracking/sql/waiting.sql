-- waiting: the job that waits with the queueing lock of this Task's job, and its Task if it has one.
SELECT waiting.queueing_lock, task.id, waiting.id
FROM pgjobs_task AS mine
JOIN procrastinate_jobs AS job ON job.id = mine.job_id
JOIN procrastinate_jobs AS waiting
  ON waiting.queueing_lock = job.queueing_lock AND waiting.status = 'todo'
LEFT JOIN pgjobs_task AS task ON task.job_id = waiting.id
WHERE mine.id = %(task_id)s;
