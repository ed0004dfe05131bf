"""Errors of the tokens room."""

from pgjobs.errors import AppError


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
