-- run_number: the job's runs that have left `doing`; to learn whether a COMMIT without an answer did.
SELECT attempts FROM procrastinate_jobs WHERE id = %(job_id)s;
