"""Between Procrastinate and a task function: declared types in, a checked result out."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from django.conf import settings
from procrastinate import JobContext

from myapp.jobs.arguments import ArgumentsRefusedError
from myapp.jobs.bridge import TaskSpec
from myapp.jobs.json_values import JSONTooLargeError, JSONValueRefusedError, check_json, dump_json
from tasks.engine.context import TaskContext
from tasks.engine.errors import ArgumentsDoNotFitError, ResultNotJSONError, ResultTooLargeError

CONTEXT_PARAMETER = "context"


def adapted(
    function: Callable[..., Any],
    *,
    spec: TaskSpec[...],
    context_of: Callable[[JobContext], TaskContext],
) -> Callable[..., Any]:
    """Return what Procrastinate calls to run `function`; async exactly if `function` is.

    The call raises ArgumentsDoNotFitError when what is stored no longer fits the declaration,
    ResultNotJSONError and ResultTooLargeError for results that cannot be kept.
    """
    takes_context = CONTEXT_PARAMETER in inspect.signature(function).parameters

    def call(job_context: JobContext, stored: dict[str, Any]) -> Any:
        arguments = _loaded(spec, stored)
        if takes_context:
            return function(context=context_of(job_context), **arguments)
        return function(**arguments)

    @functools.wraps(function)
    async def run_async(job_context: JobContext, **stored: Any) -> Any:
        return _checked(await call(job_context, stored))

    @functools.wraps(function)
    def run_sync(job_context: JobContext, **stored: Any) -> Any:
        return _checked(call(job_context, stored))

    return run_async if inspect.iscoroutinefunction(function) else run_sync


def _loaded(spec: TaskSpec[...], stored: dict[str, Any]) -> dict[str, Any]:
    try:
        return spec.arguments.load(stored)
    except ArgumentsRefusedError as error:
        raise ArgumentsDoNotFitError(summary=error.summary) from None


def _checked(result: Any) -> Any:
    if result is not None and not isinstance(result, dict):
        raise ResultNotJSONError(reason=f"it must be a dict or None, not {type(result).__name__}.")
    try:
        check_json(result)
        dump_json(result, max_bytes=settings.JOBS_RESULT_MAX_BYTES)
    except JSONValueRefusedError as error:
        raise ResultNotJSONError(reason=f"{error.pointer} {error.reason}".strip()) from None
    except JSONTooLargeError as error:
        raise ResultTooLargeError(size=error.size, limit=error.limit) from None
    return result
