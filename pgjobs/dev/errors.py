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


class ProcessEndedError(DevError):
    """{name} ended unasked: {how}. All processes were stopped."""

    code = "process_ended"


class SuperuserMissingError(DevError):
    """{username} is no active superuser here. Name another in DJANGO_SUPERUSER_USERNAME of .env,
    or create it: manage.py createsuperuser --username {username}
    """

    code = "superuser_missing"


class WebNotReadyError(DevError):
    """The web process did not become ready within {seconds} s; /readyz answered last: {answer}"""

    code = "web_not_ready"


class ApiRefusedError(DevError):
    """The demo cannot go on: {request} answered {answer}"""

    code = "api_refused"


class DemoUnfinishedError(DevError):
    """The demo job did not end within {seconds} s; its last status was {status}."""

    code = "demo_unfinished"


class DemoFailedError(DevError):
    """The demo job ended {status}: {error}"""

    code = "demo_failed"


class MigrationsFailedError(DevError):
    """The migrations failed (see above), so there is no database for tests to copy."""

    code = "migrations_failed"
