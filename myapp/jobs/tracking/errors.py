"""Errors of the tracking room."""

from uuid import UUID

from myapp.errors import AppError


class TaskNotFoundError(AppError):
    """There is no such task."""

    code = "not_found"
    task_id: UUID
