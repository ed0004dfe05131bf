"""What can go wrong with the embedded Postgres; each text says what to do about it."""

from pgjobs.dev.errors import DevError


class EmbeddedPostgresError(DevError):
    """The embedded Postgres cannot be used."""

    code = "embedded_postgres"


class BinariesMissingError(EmbeddedPostgresError):
    """The embedded Postgres is not installed. `make install` installs what development needs; or
    name a server of yours in DATABASE_URL.
    """

    code = "embedded_postgres_missing"


class AlreadyRunningError(EmbeddedPostgresError):
    """The embedded Postgres of this checkout runs already: {url}"""

    code = "embedded_postgres_already_running"
    url: str


class NotRunningError(EmbeddedPostgresError):
    """The embedded Postgres of this checkout is not running. Start it: python manage.py pg run"""

    code = "embedded_postgres_not_running"


class LockedError(EmbeddedPostgresError):
    """Another process holds {lock}, but no server answers. Wait until it has started or ended its
    server, or end that process.
    """

    code = "embedded_postgres_locked"


class UnansweringServerError(EmbeddedPostgresError):
    """Process {pid} is a Postgres on {data}, but it does not answer. Stop it, then start again."""

    code = "embedded_postgres_unanswering"


class ForeignDirectoryError(EmbeddedPostgresError):
    """{path} was not made by the embedded Postgres. Nothing in it was touched: move it away, or
    name a server of yours in DATABASE_URL.
    """

    code = "embedded_postgres_foreign_directory"


class WrongOwnerError(EmbeddedPostgresError):
    """{path} belongs to {owner}, and you are {user}. Run this as {owner}, or let {owner} move the
    directory away, or name a server of yours in DATABASE_URL.
    """

    code = "embedded_postgres_wrong_owner"


class NoAccountError(EmbeddedPostgresError):
    """Postgres refuses to run as root, and none of the users {names} exists to run it as. Start
    this as another user, or name a server of yours in DATABASE_URL.
    """

    code = "embedded_postgres_no_account"


class OtherMajorError(EmbeddedPostgresError):
    """{data} was written by Postgres {found}, and Postgres {installed} is installed. To take the
    data along, dump it with the old version and restore it with the new one:{commands}
    """

    code = "embedded_postgres_other_major"


class InitError(EmbeddedPostgresError):
    """The embedded Postgres could not create its data directory; initdb said:{output}"""

    code = "embedded_postgres_init"


class StartError(EmbeddedPostgresError):
    """The embedded Postgres did not start: {reason}. The end of {log}:{output}"""

    code = "embedded_postgres_start"


class EndedError(EmbeddedPostgresError):
    """The embedded Postgres ended unasked. The end of {log}:{output}"""

    code = "embedded_postgres_ended"
