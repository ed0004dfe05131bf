"""Every page of the library in the admin: Django looks for them here."""

from pgjobs.access.audit.admin import EntryAdmin
from pgjobs.tracking.admin import TaskAdmin

__all__ = ["EntryAdmin", "TaskAdmin"]
