"""Django's settings of every Django-based peer."""

import os

SECRET_KEY = "of-the-benchmark"
USE_TZ = True
ROOT_URLCONF = "benchmarks.peers.systems.dj_settings"
urlpatterns = []
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    *os.environ.get("PEERS_APPS", "").split(),
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": "127.0.0.1",
        "PORT": os.environ["PEERS_PG_PORT"],
        "USER": "postgres",
        "NAME": os.environ["PEERS_DB"],
        "CONN_MAX_AGE": 600,
    }
}
PROCRASTINATE_ON_APP_READY = None

# Late acknowledgement, as all others here acknowledge: a job is not lost with its worker.
CELERY_BROKER_URL = os.environ.get("PEERS_BROKER", "memory://")
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_ACKS_LATE = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
if os.environ.get("PEERS_RESULTS"):
    CELERY_RESULT_BACKEND = "django-db"
    CELERY_TASK_TRACK_STARTED = True
    # Celery closes Django's connection before and after every task unless told to reuse it.
    CELERY_DB_REUSE_MAX = 100_000
else:
    CELERY_TASK_IGNORE_RESULT = True
