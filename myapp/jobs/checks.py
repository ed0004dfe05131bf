"""System checks: the menu and the worker's functions agree."""

from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from django.utils.module_loading import import_string

from myapp.errors import AppError


@register("jobs")
def check_menu(**_options: Any) -> Iterable[CheckMessage]:
    """Return an error for each declaration without a function, the other way round, or differing.

    The worker is loaded from its dotted path here only, never when web code is imported.
    """
    try:
        sentences = import_string(settings.JOBS_WORKER_APP).mismatches()
    except AppError as error:
        sentences = [str(error)]
    return [
        Error(sentence, hint="Compare myapp/tasks.py with the modules in tasks/.", id="jobs.E001")
        for sentence in sentences
    ]
