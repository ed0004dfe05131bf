"""Query parameters of every call that makes a job: when it is due, before which others, tags."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, cast

from django.utils.timezone import is_naive, now
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from pgjobs.conf import conf
from pgjobs.contract.lengths import MAX_TAG_LENGTH
from pgjobs.defer.bridge import ConfiguredTask, TaskSpec
from pgjobs.defer.options import (
    EARLIEST,
    MAX_TAGS,
    PRIORITIES,
    BadDeferOptionError,
    DeferOptions,
    OptionArguments,
)
from pgjobs.tracking.powers import holds, is_staff

MAX_DELAY = timedelta(days=365)


class DueTimeField(serializers.DateTimeField):
    """A moment with its time zone (DRF would take one without for the server's), and not far away.

    What has passed is due at once. A time out of reach would hold its place among a user's open
    tasks for good.
    """

    default_error_messages = {  # noqa: RUF012 # as in its parent
        "naive": gettext_lazy("Must name its time zone, as in 2026-11-21T02:23:18Z."),
        "past": gettext_lazy("Must not lie before the year 1970."),
        "future": gettext_lazy("Must lie within the next {days} days."),
    }

    def enforce_timezone(self, value: datetime) -> datetime:
        if is_naive(value):
            self.fail("naive")
        moment = super().enforce_timezone(value)
        if moment < EARLIEST:
            self.fail("past")
        if moment > now() + MAX_DELAY:
            self.fail("future", days=MAX_DELAY.days)
        return moment.astimezone(UTC)


class DeferOptionsInput(serializers.Serializer[Any]):
    """The parameters; give it the `request`'s user as context."""

    run_at = DueTimeField(
        required=False,
        help_text=(
            "The job is not due before; an ISO time with its time zone, within the next"
            f" {MAX_DELAY.days} days."
        ),
    )
    delay = serializers.DecimalField(
        required=False,
        max_digits=14,
        decimal_places=6,
        min_value=Decimal(0),
        max_value=Decimal(MAX_DELAY.total_seconds()),
        help_text="Seconds from now before which the job is not due; not beside `run_at`.",
    )
    priority = serializers.IntegerField(
        required=False,
        min_value=PRIORITIES.start,
        max_value=PRIORITIES.stop - 1,
        help_text="Higher runs first. How far one may go is set by who runs this site.",
    )

    tag = serializers.ListField(
        child=serializers.CharField(max_length=MAX_TAG_LENGTH),
        required=False,
        max_length=MAX_TAGS,
        help_text="A word to find the task by; may be given more than once.",
    )

    def validate_priority(self, value: int) -> int:
        least, most = conf.JOBS_API_PRIORITY_MIN, conf.JOBS_API_PRIORITY_MAX
        if not (least <= value <= most or _has_no_bounds(self.context["user"])):
            raise ValidationError(
                _("Must be from {least} to {most}.").format(least=least, most=most)
            )
        return value

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "run_at" in attrs and "delay" in attrs:
            raise ValidationError({"delay": [_("Cannot be given together with run_at.")]})
        return attrs


OPTION_NAMES = frozenset(DeferOptionsInput().fields)
_REPEATABLE = ("tag",)
_PARAMETER_OF_OPTION = {"schedule_at": "run_at", "schedule_in": "delay", "tags": "tag"}


def defer_options(request: Request) -> OptionArguments:
    """Return the options in the query string of `request`.

    Raises:
        ValidationError: one does not fit, is given twice, or two exclude each other.
    """
    given = {name: values for name, values in request.query_params.lists() if name in OPTION_NAMES}
    _check_given_once(given)
    # Of a QueryDict a serializer would take an empty value for none.
    data = {name: values if name in _REPEATABLE else values[-1] for name, values in given.items()}
    serializer = DeferOptionsInput(data=data, context={"user": request.user})
    serializer.is_valid(raise_exception=True)
    return _checked(_as_options(serializer.validated_data))


def with_options[**P](
    spec: TaskSpec[P], options: OptionArguments
) -> TaskSpec[P] | ConfiguredTask[P]:
    """Return what to defer by: without options the task itself, whose `defer` tests patch."""
    return spec.configure(**options) if options else spec


def _has_no_bounds(user: Any) -> bool:
    return is_staff(user) and holds(user, "pgjobs.change_task")


def _check_given_once(given: Mapping[str, list[str]]) -> None:
    twice = [name for name, values in given.items() if len(values) > 1 and name not in _REPEATABLE]
    if twice:
        raise ValidationError({name: [_("Must be given once at most.")] for name in twice})


def _as_options(values: Mapping[str, Any]) -> OptionArguments:
    options: dict[str, Any] = {}
    if "run_at" in values:
        options["schedule_at"] = values["run_at"]
    if "delay" in values:
        options["schedule_in"] = timedelta(seconds=float(values["delay"]))
    if "priority" in values:
        options["priority"] = values["priority"]
    if "tag" in values:
        options["tags"] = values["tag"]
    return cast("OptionArguments", options)


def _checked(options: OptionArguments) -> OptionArguments:
    """Return `options`, unless `configure` would refuse what the parameters allow."""
    try:
        DeferOptions(**options)
    except BadDeferOptionError as error:
        name = _PARAMETER_OF_OPTION.get(error.option, error.option)
        raise ValidationError({name: [error.reason]}) from None
    return options
