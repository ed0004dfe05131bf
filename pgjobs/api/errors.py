"""Errors of the rooms of the API; their HTTP status is in `http/problems.py`."""

from pgjobs.errors import AppError


class KeyInUseError(AppError):
    """A request with this Idempotency-Key is under way. Send it again in a moment."""

    code = "idempotency_key_in_use"


class KeyReusedError(AppError):
    """This Idempotency-Key belongs to another request. Take a new key for each request."""

    code = "idempotency_key_reused"


class KeyOutlivedTaskError(AppError):
    """The request with this Idempotency-Key had its effect, and its task was deleted since."""

    code = "task_deleted"


class WrongCredentialsError(AppError):
    """No active user has this name and this password."""

    code = "wrong_credentials"


class TooManyTokensError(AppError):
    """You have {limit} API tokens, which is the limit. Revoke one that you do not need."""

    code = "too_many_tokens"
    limit: int


class TokenNotFoundError(AppError):
    """There is no such token, or it is not yours."""

    code = "not_found"
