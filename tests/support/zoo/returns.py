"""What a function does to the row of its own job: no way back to PENDING is without an end."""

from pgjobs.contract.context import TaskContext
from zoo.sql import run_sql
from zoo.table import ANY_END, ATOMIC, FAILED, PLAIN, SYNC_TO_ASYNC, nuisance


@nuisance(ATOMIC, end=FAILED)
@nuisance(PLAIN, SYNC_TO_ASYNC, end=ANY_END)
def delete_its_job(context: TaskContext) -> None:
    run_sql("DELETE FROM procrastinate_jobs WHERE id = %s", context.job_id)


@nuisance(ATOMIC, end=FAILED)
@nuisance(PLAIN, end=ANY_END)
def count_its_attempts(context: TaskContext) -> None:
    run_sql("UPDATE procrastinate_jobs SET attempts = attempts + 1 WHERE id = %s", context.job_id)


@nuisance(ATOMIC, end=FAILED)
def take_its_worker_away(context: TaskContext) -> None:
    run_sql("UPDATE procrastinate_jobs SET worker_id = NULL WHERE id = %s", context.job_id)


@nuisance(ATOMIC, end=FAILED)
def end_its_job(context: TaskContext) -> None:
    run_sql("UPDATE procrastinate_jobs SET status = 'succeeded' WHERE id = %s", context.job_id)


@nuisance(ATOMIC, end=FAILED)
def fail_its_job(context: TaskContext) -> None:
    run_sql("UPDATE procrastinate_jobs SET status = 'failed' WHERE id = %s", context.job_id)


@nuisance(ATOMIC, end=FAILED)
def let_its_job_wait(context: TaskContext) -> None:
    run_sql("UPDATE procrastinate_jobs SET status = 'todo' WHERE id = %s", context.job_id)


# In no company: what runs on a worker that is thought dead runs again, as at least once says.
@nuisance(PLAIN, end=ANY_END, company=False)
def declare_its_worker_dead(context: TaskContext) -> None:
    run_sql("DELETE FROM procrastinate_workers")
