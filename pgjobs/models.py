"""Every model of the library, each in the module of its room: Django looks for them here."""

from pgjobs.access.audit.models import Entry
from pgjobs.tracking.models import Attempt, Tag, Task
from pgjobs.workers.models import WorkerProcess

__all__ = ["Attempt", "Entry", "Tag", "Task", "WorkerProcess"]
