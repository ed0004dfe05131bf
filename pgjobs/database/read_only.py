"""Recognising a server that refuses to write: a standby, or a primary amid a failover."""

# PostgreSQL manual, appendix A: read_only_sql_transaction. Django has no class for it and raises
# InternalError.
_READ_ONLY = "25006"


def is_read_only_error(error: BaseException | None) -> bool:
    """Tell whether the server refused to write because it is read-only.

    `error` is one of psycopg's, or one of Django's that was raised from it.
    """
    states = (getattr(one, "sqlstate", None) for one in (error, getattr(error, "__cause__", None)))
    return _READ_ONLY in states
