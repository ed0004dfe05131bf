"""The state of a Task as a stream shows it."""

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from rest_framework.renderers import JSONRenderer

from pgjobs.api.tasks.serializers import TaskStatusOutput
from pgjobs.tracking.models import Task
from pgjobs.tracking.states import FINAL, TaskStatus

# Milliseconds after which a browser that lost its stream asks for another.
RETRY_MILLISECONDS = 2000
OPENING = b"retry: %d\n\n" % RETRY_MILLISECONDS


@dataclass(frozen=True, slots=True)
class TaskState:
    """One state; `event_id` tells it from others of the Task, and begins with its status."""

    event_id: str
    status: TaskStatus
    data: bytes  # the fields of the status, JSON on one line

    @property
    def is_end(self) -> bool:
        return self.status in FINAL

    def event(self, last_event_id: str) -> bytes:
        """Return it as an event, for somebody who has seen `last_event_id`, or "" for nothing.

        Empty if they have seen this very state.
        """
        if last_event_id == self.event_id:
            return b""
        kind = "progress" if last_event_id.partition(".")[0] == self.status else "status"
        if self.is_end:
            kind = "result"
        return b"event: %s\nid: %s\ndata: %s\n\n" % (
            kind.encode(),
            self.event_id.encode(),
            self.data,
        )


def task_states(ids: Iterable[UUID]) -> dict[UUID, TaskState]:
    """Return the states of these Tasks; who may see them is for the caller to know."""
    ids = list(ids)
    if not ids:
        return {}
    tasks = Task.objects.get_queryset().with_last_change().filter(pk__in=ids)
    return {task.pk: task_state(task) for task in tasks}


def task_state(task: Task) -> TaskState:
    """Return the state of a Task that was read with its times."""
    moment = task.last_change_at.strftime("%Y%m%dT%H%M%S%f")
    return TaskState(
        event_id=f"{task.status}.{moment}.{task.progress}",
        status=TaskStatus(task.status),
        data=JSONRenderer().render(TaskStatusOutput(task).data),
    )
