"""Errors of the room of keys."""

from pgjobs.errors import AppError

HEADER = "Idempotency-Key"  # how a request brings it


class KeyInUseError(AppError):
    """A request with this Idempotency-Key is under way. Send it again in a moment."""

    code = "idempotency_key_in_use"


class KeyReusedError(AppError):
    """This Idempotency-Key belongs to another request. Take a new key for each request."""

    code = "idempotency_key_reused"


class KeyOutlivedTaskError(AppError):
    """The request with this Idempotency-Key had its effect, and its task was deleted since."""

    code = "task_deleted"
