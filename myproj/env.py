"""What differs between deployments: every environment variable, read once.

Values are read from `.env` too; the process environment wins. A bad value stops the start, and all
of them are reported at once.
"""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from environs import Env, EnvValidationError, ValidationError
from environs import validate as valid
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from pgjobs.conf import SETTINGS, Setting

BASE_DIR: Path = Path(__file__).resolve().parent.parent
DEVELOPMENT_SECRET_KEY = "development-only-key-refused-in-production"  # noqa: S105 # nosec B105

# libpq's own variables: any of these names a server, so none of ours is started.
LIBPQ_VARIABLES = ("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE")


def _is_conninfo(text: str) -> None:
    try:
        target = conninfo_to_dict(text)
    except ProgrammingError:
        target = {}
    unread = bool(text) and not target
    ports = str(target.get("port", "")).split(",")
    if unread or _has_bare_separators(text) or not all(map(_is_port, ports)):
        # What libpq says quotes what it could not read: a piece of the password.
        raise ValidationError(
            "Not a Postgres URL, postgresql://user:password@host:port/name. Write @ / : and % of a"
            " user name or password as %40 %2F %3A and %25."
        )


def _has_bare_separators(text: str) -> bool:
    """Tell whether a password with @ or / would be read as a host, and named in errors."""
    scheme, found, rest = text.partition("://")
    if not found or " " in scheme:
        return False
    authority, _, path = rest.partition("?")[0].partition("/")
    return authority.count("@") > 1 or "@" in path


def _is_port(text: str) -> bool:
    return not text or text.isdecimal()


_env = Env(eager=False)
_env.read_env(str(BASE_DIR / ".env"), recurse=False)

# --- Where this runs -------------------------------------------------------------------------

# "production" refuses everything that is only safe on a developer's machine.
ENVIRONMENT: str = _env.str(
    "ENVIRONMENT", "development", validate=valid.OneOf(["development", "production"])
)
IN_PRODUCTION: bool = ENVIRONMENT == "production"

# Signs sessions and links; at least 32 characters of your own in production.
SECRET_KEY: str = _env.str("SECRET_KEY", DEVELOPMENT_SECRET_KEY)

# Earlier keys, by comma: what they signed stays valid, and new things are signed by SECRET_KEY.
SECRET_KEY_FALLBACKS: list[str] = _env.list("SECRET_KEY_FALLBACKS", [])

# Django's debug pages. Off by default in development too: they replace the answers of the API.
DEBUG: bool = _env.bool("DEBUG", False)

# Host names served, by comma. By default this machine only, so that a deployment that forgot
# ENVIRONMENT=production answers nobody.
ALLOWED_HOSTS: list[str] = _env.list("ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"])

# Origins trusted for forms behind a proxy that ends TLS: https://jobs.example.com, by comma.
CSRF_TRUSTED_ORIGINS: list[str] = _env.list("CSRF_TRUSTED_ORIGINS", [])

# "text" for people, "json" for machines, "short" for the terminal of a development session.
LOG_FORMAT: str = _env.str(
    "LOG_FORMAT",
    "json" if IN_PRODUCTION else "short" if "PGJOBS_SESSION" in os.environ else "text",
    validate=valid.OneOf(["text", "json", "short"]),
)
LOG_LEVEL: str = _env.str(
    "LOG_LEVEL",
    "INFO",
    validate=valid.OneOf(["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]),
)

# --- Database --------------------------------------------------------------------------------

# postgresql://user:password@host:port/name; libpq's PG* variables do as well. With neither,
# development uses the embedded Postgres of this checkout.
DATABASE_URL: str = _env.str("DATABASE_URL", "", validate=_is_conninfo)
HAS_OWN_DATABASE: bool = bool(DATABASE_URL) or any(os.environ.get(name) for name in LIBPQ_VARIABLES)

# Connections one web process may hold.
DATABASE_POOL_SIZE: int = _env.int("DATABASE_POOL_SIZE", 10, validate=valid.Range(1, 1000))

# --- Accounts --------------------------------------------------------------------------------

# The superuser that `manage.py migrate` creates once; nothing when it exists or the name is empty.
DJANGO_SUPERUSER_USERNAME: str = _env.str("DJANGO_SUPERUSER_USERNAME", "")
DJANGO_SUPERUSER_EMAIL: str = _env.str("DJANGO_SUPERUSER_EMAIL", "")
DJANGO_SUPERUSER_PASSWORD: str = _env.str("DJANGO_SUPERUSER_PASSWORD", "")

# --- Mail ------------------------------------------------------------------------------------

# Where people reach the site, for links in mails: a worker has no request to take it from.
LOCAL_URL = f"http://localhost:{os.environ.get('PORT') or 8000}"
JOBS_PUBLIC_URL: str = _env.str(
    "JOBS_PUBLIC_URL",
    LOCAL_URL,
    validate=valid.URL(schemes={"http", "https"}, require_tld=False),
)

# The mail server, in production. Development writes mails to files in var/mail/ instead.
EMAIL_HOST: str = _env.str("EMAIL_HOST", "localhost")
EMAIL_PORT: int = _env.int("EMAIL_PORT", 25, validate=valid.Range(1, 65_535))

# Both or neither: with neither the server is used without signing in.
EMAIL_HOST_USER: str = _env.str("EMAIL_HOST_USER", "")
EMAIL_HOST_PASSWORD: str = _env.str("EMAIL_HOST_PASSWORD", "")

# True speaks TLS after STARTTLS, usually on port 587.
EMAIL_USE_TLS: bool = _env.bool("EMAIL_USE_TLS", False)

# The sender of mails.
DEFAULT_FROM_EMAIL: str = _env.str("DEFAULT_FROM_EMAIL", "webmaster@localhost")

# --- Jobs ------------------------------------------------------------------------------------


def _read(setting: Setting[Any]) -> Any:
    """Return what the environment says of a setting of the library, else its default."""
    read = getattr(_env, setting.kind.__name__)
    return read(setting.name, setting.default, validate=_validators(setting))


def _validators(setting: Setting[Any]) -> list[Callable[[Any], Any]]:
    if setting.name == "JOBS_WORKER_DATABASE_URL":
        return [_is_conninfo]
    if setting.within:
        return [valid.Range(*setting.within)]
    return [valid.OneOf(setting.one_of)] if setting.one_of else []


# The settings of the library, which pgjobs/conf.py describes.
JOBS: dict[str, Any] = {
    name: _read(setting) for name, setting in SETTINGS.items() if setting.is_variable
}

# Days an API token lives.
JOBS_TOKEN_DAYS: int = _env.int("JOBS_TOKEN_DAYS", 30, validate=valid.Range(1, 3650))

# The example begins: accounts that people open themselves.

# Hours the link in an activation mail works.
JOBS_ACTIVATION_LINK_HOURS: int = _env.int(
    "JOBS_ACTIVATION_LINK_HOURS", 24, validate=valid.Range(1, 24 * 365)
)

# Days after which an account that was opened and never activated is deleted.
JOBS_UNACTIVATED_DAYS: int = _env.int("JOBS_UNACTIVATED_DAYS", 7, validate=valid.Range(1, 3650))

# Sign-ups that one address may try in an hour, form and API together. 0 is no limit.
JOBS_THROTTLE_SIGNUP_PER_HOUR: int = _env.int(
    "JOBS_THROTTLE_SIGNUP_PER_HOUR", 20, validate=valid.Range(0, 1_000_000_000)
)

# The example ends.

# --- Refuse what is bad or unsafe, all of it at once -------------------------------------------


def _bad_values() -> list[str]:
    try:
        _env.seal()
    except EnvValidationError as error:
        messages = cast("Mapping[str, list[str]]", error.error_messages)
        return [f"{name}: {' '.join(why)}" for name, why in messages.items()]
    return []


def _unsafe_in_production() -> list[str]:
    problems = []
    if SECRET_KEY == DEVELOPMENT_SECRET_KEY or len(SECRET_KEY) < 32:
        problems.append("SECRET_KEY: set a key of your own, at least 32 characters, in production.")
    if any(key == DEVELOPMENT_SECRET_KEY or len(key) < 32 for key in SECRET_KEY_FALLBACKS):
        problems.append("SECRET_KEY_FALLBACKS: each must be your own, at least 32 characters.")
    if DEBUG:
        problems.append("DEBUG: must be false in production; it shows settings to visitors.")
    if not ALLOWED_HOSTS or any(host in ("*", ".") for host in ALLOWED_HOSTS):
        problems.append("ALLOWED_HOSTS: name the hosts served in production; '*' is refused.")
    if JOBS_PUBLIC_URL == LOCAL_URL:
        problems.append("JOBS_PUBLIC_URL: say where people reach the site; links in mails need it.")
    if JOBS["JOBS_EAGER"]:
        problems.append("JOBS_EAGER: must be false in production; jobs would run in web requests.")
    if not HAS_OWN_DATABASE:
        problems.append(
            "DATABASE_URL: set it (or PGHOST and its kin) in production; the embedded Postgres "
            "is for development and tests only."
        )
    return problems


_problems = _bad_values()
if not _problems and IN_PRODUCTION:
    _problems = _unsafe_in_production()
if _problems:
    # Not an exception: web server, worker and commands would each bury it in something else.
    sys.exit("\n  ".join(["The environment (or .env) is not usable:", *_problems]))
