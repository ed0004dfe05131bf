"""Django's settings. What differs between deployments is read and described in `myproj/env.py`."""

import hashlib
import os
from datetime import timedelta
from importlib.util import find_spec
from typing import Any, cast

from django.utils.csp import CSP

from myproj import env
from myproj.database import Role, database_settings
from pgjobs.dev.postgres import embedded_url

BASE_DIR = env.BASE_DIR

SECRET_KEY = env.SECRET_KEY
SECRET_KEY_FALLBACKS = env.SECRET_KEY_FALLBACKS
DEBUG = env.DEBUG
ALLOWED_HOSTS = env.ALLOWED_HOSTS
CSRF_TRUSTED_ORIGINS = env.CSRF_TRUSTED_ORIGINS

# --- Database --------------------------------------------------------------------------------

# Set by the entry points, not by people.
_role = cast("Role", os.environ.get("PROCESS_ROLE", "command"))
_url_of_all = env.DATABASE_URL if env.HAS_OWN_DATABASE else embedded_url(BASE_DIR)

DATABASES = database_settings(
    url=(_role == "worker" and env.JOBS["JOBS_WORKER_DATABASE_URL"]) or _url_of_all,
    role=_role,
    pool_size=env.DATABASE_POOL_SIZE,
    test_suffix=hashlib.sha256(str(BASE_DIR).encode()).hexdigest()[:8],
)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# For the commands of pgjobs.dev: the server that the environment names, None for the embedded one.
JOBS_DEV_DATABASE_URL = env.DATABASE_URL if env.HAS_OWN_DATABASE else None
JOBS_DEV_REFUSED = env.IN_PRODUCTION

# --- Jobs ------------------------------------------------------------------------------------

# Procrastinate's own discovery imports every app's tasks.py before the registry is ready.
PROCRASTINATE_AUTODISCOVER_MODULE_NAME = ""

# Dotted path of the worker's app, loaded only by checks that compare it with the menu.
JOBS_WORKER_APP = "tasks.app"

# What the environment says of the library's settings; pgjobs/conf.py describes them.
globals().update(env.JOBS)

# --- Applications and requests ---------------------------------------------------------------

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    # The extra "docs-ui": the files of the page at /api/docs/.
    *(["drf_spectacular_sidecar"] if find_spec("drf_spectacular_sidecar") else []),
    "knox",
    # Before the library, one of whose commands it replaces.
    "pgjobs",
    "procrastinate.contrib.django",
    "pgjobs.api",
    "pgjobs.dev",
    "myapp.access",
    "myapp.pages",
]

MIDDLEWARE = [
    "pgjobs.observe.middleware.RequestMiddleware",
    "pgjobs.api.http.redirects.SameRequestMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.middleware.csp.ContentSecurityPolicyMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "pgjobs.access.audit.services.AuditMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

# What lacks its final slash is served: see SameRequestMiddleware.
APPEND_SLASH = False
ROOT_URLCONF = "myproj.urls"
ASGI_APPLICATION = "myproj.asgi.application"
WSGI_APPLICATION = "myproj.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.template.context_processors.csp",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "var" / "static"
# Production serves what `collectstatic` hashed; development serves files from where they are.
STORAGES = {
    "staticfiles": {
        "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"
        if env.IN_PRODUCTION
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    }
}
WHITENOISE_USE_FINDERS = not env.IN_PRODUCTION
WHITENOISE_AUTOREFRESH = not env.IN_PRODUCTION

# --- Accounts --------------------------------------------------------------------------------

LOGIN_URL = "/login/"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/"
PASSWORD_HASHERS = [
    "pgjobs.access.hashing.BoundedPBKDF2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2SHA1PasswordHasher",
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.ScryptPasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

# Described in myproj/env.py.
DJANGO_SUPERUSER_USERNAME = env.DJANGO_SUPERUSER_USERNAME
DJANGO_SUPERUSER_EMAIL = env.DJANGO_SUPERUSER_EMAIL
DJANGO_SUPERUSER_PASSWORD = env.DJANGO_SUPERUSER_PASSWORD

# --- Mail ------------------------------------------------------------------------------------

JOBS_PUBLIC_URL = env.JOBS_PUBLIC_URL.rstrip("/")
DEFAULT_FROM_EMAIL = env.DEFAULT_FROM_EMAIL
_smtp_mailer: dict[str, Any] = {
    "BACKEND": "django.core.mail.backends.smtp.EmailBackend",
    "OPTIONS": {
        "host": env.EMAIL_HOST,
        "port": env.EMAIL_PORT,
        "username": env.EMAIL_HOST_USER,
        "password": env.EMAIL_HOST_PASSWORD,
        "use_tls": env.EMAIL_USE_TLS,
        # Seconds. Without it a server that does not answer would hold a worker's thread.
        "timeout": 10,
    },
}
_file_mailer: dict[str, Any] = {
    "BACKEND": "pgjobs.dev.mail.ReadableFileBackend",
    "OPTIONS": {"file_path": BASE_DIR / "var" / "mail"},
}
MAILERS = {"default": _smtp_mailer if env.IN_PRODUCTION else _file_mailer}

# --- HTTP API --------------------------------------------------------------------------------

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        # The first one names itself in the WWW-Authenticate header of a 401.
        "pgjobs.api.tokens.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_PARSER_CLASSES": ["pgjobs.api.http.parsers.StrictJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "pgjobs.api.http.negotiation.ReadableNegotiation",
    "DEFAULT_PAGINATION_CLASS": "pgjobs.api.http.pagination.IdCursorPagination",
    "DEFAULT_THROTTLE_CLASSES": ["pgjobs.api.throttles.throttling.CallerThrottle"],
    "EXCEPTION_HANDLER": "pgjobs.api.throttles.refusals.exception_handler",
    "DEFAULT_SCHEMA_CLASS": "pgjobs.api.openapi.schema.ApiSchema",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
REST_KNOX = {"TOKEN_TTL": timedelta(days=env.JOBS_TOKEN_DAYS), "AUTH_HEADER_PREFIX": "Token"}
DATA_UPLOAD_MAX_MEMORY_SIZE = env.JOBS["JOBS_REQUEST_MAX_BYTES"]

# The description at /api/schema/; operations describe themselves.
SPECTACULAR_SETTINGS = {
    "TITLE": "Background jobs",
    "DESCRIPTION": (
        "Calls that change or read data answer 202 with the task that does it; the task's status "
        "says how it went. Errors are problem details (RFC 9457): `code` is for programs. A method "
        "that a path does not have is a 405, an unexpected error a 500, also as problem details."
    ),
    "VERSION": "0.1.0",
    "OAS_VERSION": "3.1.1",
    "SCHEMA_PATH_PREFIX": "/api/",
    # Strings that may not be empty say so.
    "ENFORCE_NON_BLANK_FIELDS": True,
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "ENUM_NAME_OVERRIDES": {"TaskStatus": "pgjobs.tracking.states.TaskStatus"},
    # Files of our own host, and nothing sent to a validator elsewhere.
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "SWAGGER_UI_SETTINGS": {"deepLinking": True, "validatorUrl": None},
}

# --- Security headers ------------------------------------------------------------------------

SECURE_CSP = {
    "default-src": [CSP.SELF],
    "script-src": [CSP.SELF, CSP.NONCE],
    "style-src": [CSP.SELF, CSP.NONCE],
    "img-src": [CSP.SELF, "data:"],
    "object-src": [CSP.NONE],
    "base-uri": [CSP.NONE],
    "form-action": [CSP.SELF],
    "frame-ancestors": [CSP.NONE],
}
CSRF_FAILURE_VIEW = "myapp.pages.errorpages.csrf_failure"
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
_behind_tls_proxy = env.JOBS["JOBS_BEHIND_TLS_PROXY"]
# Whoever reaches the site by https never sends a cookie in the clear, whatever ends TLS.
_by_https = env.IN_PRODUCTION and JOBS_PUBLIC_URL.startswith("https://")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _behind_tls_proxy or _by_https
if _behind_tls_proxy:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    # One year; the site is only ever spoken to by TLS.
    SECURE_HSTS_SECONDS = 31_536_000
    SECURE_SSL_REDIRECT = True
    # What other hosts below this name do, and lists of browsers, are for whoever owns the name.
    SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
    # Platforms probe health by plain HTTP from inside.
    SECURE_REDIRECT_EXEMPT = [r"^livez$", r"^readyz$"]

# --- Language, time, logs --------------------------------------------------------------------

LANGUAGE_CODE = "en"
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"

LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {
        "no_job_arguments": {"()": "pgjobs.observe.logs.NoJobArguments"},
    },
    "formatters": {
        "structured": {"()": "pgjobs.observe.logs.formatter", "style": env.LOG_FORMAT},
    },
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "formatter": "structured",
            "filters": ["no_job_arguments"],
        },
    },
    "root": {"handlers": ["console"], "level": env.LOG_LEVEL},
    "loggers": {
        # Django's own handlers would print everything twice.
        "django": {"handlers": [], "level": env.LOG_LEVEL, "propagate": True},
        "django.server": {"handlers": [], "level": env.LOG_LEVEL, "propagate": True},
        # The web server sets up handlers of its own before it loads us: one form for all lines.
        "uvicorn": {"handlers": [], "level": env.LOG_LEVEL, "propagate": True},
        "uvicorn.access": {"handlers": [], "propagate": False},
        # The library's lines about starting and stopping; those about jobs are ours to write.
        "procrastinate": {"level": "DEBUG" if env.LOG_LEVEL == "DEBUG" else "WARNING"},
        # Scanners try any Host; the 400 they get says it all.
        "django.security.DisallowedHost": {"level": "CRITICAL"},
        # It names the path, which may hold the key of a link; our own line about it does not.
        "django.security.csrf": {"level": "CRITICAL"},
        # Our problem answers say and log what happened; Django would log each 4xx once more.
        "django.request": {"level": "CRITICAL"},
    },
}

# The example begins: users, whose every change is a job, and who open their accounts themselves.

INSTALLED_APPS += ["myapp.users"]
AUTH_USER_MODEL = "users.User"

# The job that `manage.py dev` shows.
JOBS_DEV_DEMO = "myapp.users.demo"

# Described in myproj/env.py.
JOBS_ACTIVATION_LINK_HOURS = env.JOBS_ACTIVATION_LINK_HOURS
JOBS_UNACTIVATED_DAYS = env.JOBS_UNACTIVATED_DAYS
JOBS_THROTTLE_SIGNUP_PER_HOUR = env.JOBS_THROTTLE_SIGNUP_PER_HOUR

# The example ends.
