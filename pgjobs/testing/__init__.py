"""For the tests of teams: run deferred jobs without a worker process, and assert what was deferred.

Everything works in a plain `TestCase` (or pytest's `django_db`), in whose one transaction the jobs
are deferred, run, and rolled back:

    def test_sign_up_mails_a_link(self):
        self.client.post("/signup/", {...})
        assert_deferred(tasks.send_activation_email, user_pk=User.objects.get().pk)

        (task,) = run_jobs()

        self.assertEqual(task.status, "DONE")
        self.assertEqual(len(mail.outbox), 1)

With the setting `JOBS_EAGER = True` no call is needed: each `defer` runs its task at once.
"""

from typing import Any
from uuid import UUID

from django.utils.module_loading import import_string

from pgjobs.conf import conf
from pgjobs.defer.bridge import TaskSpec
from pgjobs.tracking.models import Task

# More than a test defers; a task that defers itself would go on for ever.
MAX_JOBS = 1000


def run_jobs(*, queues: list[str] | None = None, limit: int = MAX_JOBS) -> list[Task]:
    """Run what is ready, in the order a worker would, and return the Tasks as they are then.

    A task that fails is FAILED, or PENDING again when its policy retries it; nothing is raised.
    Jobs deferred by jobs run too. What is scheduled for later stays.

    Raises:
        AssertionError: jobs are still ready after `limit` runs.
    """
    runner = import_string(conf.JOBS_WORKER_APP).inline_runner()
    ids: list[UUID] = []
    for _ in range(limit):
        run = runner.run_next(queues)
        if run is None:
            tasks = Task.objects.in_bulk(set(ids))
            return [tasks[task_id] for task_id in dict.fromkeys(ids)]
        if run.task_id:
            ids.append(run.task_id)
    raise AssertionError(f"Jobs were still ready after {limit} runs.")


def deferred(spec: TaskSpec[...], **arguments: Any) -> list[Task]:
    """Return the Tasks of `spec` deferred so far, oldest first, whose arguments include these."""
    wanted = spec.arguments.dump(arguments, partial=True)
    found = Task.objects.filter(task_name=spec.name).select_related("job").order_by("id")
    return [task for task in found if task.job and task.job.args.items() >= wanted.items()]


def assert_deferred(spec: TaskSpec[...], **arguments: Any) -> Task:
    """Return the one Task of `spec` whose arguments include these.

    Raises:
        AssertionError: there is none, or several; says what was deferred instead.
    """
    found = deferred(spec, **arguments)
    if len(found) != 1:
        raise AssertionError(
            f"{spec.name} was deferred {len(found)} times with {arguments}, not once."
            f" Deferred so far: {_summary()}"
        )
    return found[0]


def assert_nothing_deferred() -> None:
    """Raise AssertionError when any Task exists."""
    if Task.objects.exists():
        raise AssertionError(f"Deferred: {_summary()}")


def _summary() -> str:
    rows = Task.objects.order_by("id").values_list("task_name", "input_data")
    return "; ".join(f"{name}({arguments})" for name, arguments in rows) or "nothing"
