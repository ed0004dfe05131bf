"""Refuses what a request says to nobody: unknown parameters, and bodies where none is taken."""

from collections.abc import Collection

from django.utils.translation import gettext as _
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request


def refuse_query(request: Request, *, beside: Collection[str] = ()) -> None:
    """Raise ValidationError if there is any query parameter but those named `beside`."""
    if unknown := request.query_params.keys() - set(beside):
        raise ValidationError({name: [_("Unknown parameter.")] for name in sorted(unknown)})


def refuse_input(request: Request, *, beside: Collection[str] = ()) -> None:
    """Raise ValidationError if there is such a parameter, or anything in the body."""
    refuse_query(request, beside=beside)
    if isinstance(request.data, dict):
        fields = {name: [_("Unknown field.")] for name in request.data}
    else:
        fields = {"non_field_errors": [_("This operation takes no body.")]}
    if fields:
        raise ValidationError(fields)
