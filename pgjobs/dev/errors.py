"""What can go wrong in a development session; each text says what to do about it."""

from pgjobs.errors import AppError


class DevError(AppError):
    """The development session could not be started."""

    code = "dev"


class ProductionRefusedError(DevError):
    """This command is for development: in production the platform starts the Procfile's lines."""

    code = "production_refused"


class PortInvalidError(DevError):
    """PORT={text} is no port number: choose one from 1 to 65535, as in PORT=8000 make run"""

    code = "port_invalid"


class PortTakenError(DevError):
    """Port {port} is in use. Choose another: PORT={other} make run"""

    code = "port_taken"


class PortForbiddenError(DevError):
    """Port {port} needs rights you do not have. Choose another: PORT=8000 make run"""

    code = "port_forbidden"


class ProcfileInvalidError(DevError):
    """{path} cannot be used: {problem}"""

    code = "procfile_invalid"


class ManageMissingError(DevError):
    """There is no manage.py in {root}. Start this where the manage.py of the project is."""

    code = "manage_missing"


class NotLoadedError(DevError):
    """{problems}"""

    code = "not_loaded"


class NoPostgresError(DevError):
    """The database '{alias}' is {vendor}; jobs are kept in Postgres. Here is one for development,
    in the settings: DATABASES = {{"{alias}": embedded_database(BASE_DIR)}}, which is imported from
    pgjobs.dev.postgres.
    """

    code = "no_postgres"


class SuperuserMissingError(DevError):
    """{username} is no active superuser here. Name another in DJANGO_SUPERUSER_USERNAME of .env,
    or create it: manage.py createsuperuser --username {username}
    """

    code = "superuser_missing"


class WebNotReadyError(DevError):
    """The web process did not become ready within {seconds:.0f} s: {problem}"""

    code = "web_not_ready"


class ApiRefusedError(DevError):
    """The demo cannot go on: {request} answered {answer}"""

    code = "api_refused"


class DemoUnfinishedError(DevError):
    """The demo job did not end within {seconds:.0f} s; its last status was {status}."""

    code = "demo_unfinished"


class DemoFailedError(DevError):
    """The demo job ended {status}: {error}"""

    code = "demo_failed"


class MigrationsFailedError(DevError):
    """The migrations failed (see above), so there is no database for tests to copy."""

    code = "migrations_failed"
