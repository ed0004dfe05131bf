"""The header Idempotency-Key: a request that is sent again has its effect once."""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from django.utils.crypto import salted_hmac
from django.utils.translation import gettext as _
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from pgjobs.access.addresses import address_of
from pgjobs.access.callers import caller_name
from pgjobs.api.http.headers import IDEMPOTENCY_KEY
from pgjobs.api.keys.services import KeyedRequest, once

REPLAYED_HEADER = "Idempotency-Replayed"
MAX_KEY_LENGTH = 255

_PRINTABLE = re.compile(rf"[\x20-\x7e]{{1,{MAX_KEY_LENGTH}}}")
# A string of structured fields (RFC 9651), which the draft of this header asks for.
_QUOTED = re.compile(r'"((?:[^"\\]|\\["\\])*)"')


def answer_once(
    request: Request,
    write: Callable[[], Sequence[UUID]],
    *,
    answer: Callable[[Sequence[UUID]], Response],
    body: Any = None,
) -> Response:
    """Return what `answer` makes of the Tasks that `write` returns.

    With an Idempotency-Key `write` runs once for each key of the caller, in a transaction that the
    key commits with; when the request comes again, `answer` is given the Tasks of the first time,
    and the header Idempotency-Replayed is set. `body` is what the request said, as JSON.

    Raises:
        ValidationError: the header holds no key.
        KeyInUseError, KeyReusedError, KeyOutlivedTaskError: see `once`.
    """
    key = _key_of(request)
    if key is None:
        return answer(write())
    fingerprint = _fingerprint(request, body)
    effect = once(KeyedRequest(_caller_of(request), key, fingerprint), write)
    response = answer(effect.task_ids)
    if effect.replayed:
        response[REPLAYED_HEADER] = "true"
    return response


def _key_of(request: Request) -> str | None:
    text = request.headers.get(IDEMPOTENCY_KEY)
    if text is None:
        return None
    key = text.strip()
    if key.startswith('"'):
        quoted = _QUOTED.fullmatch(key)
        key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else ""
    if not _PRINTABLE.fullmatch(key):
        problem = _("Must be 1 to {most} printable ASCII characters, in quotes or not.")
        raise ValidationError({IDEMPOTENCY_KEY: [problem.format(most=MAX_KEY_LENGTH)]})
    return key


def _caller_of(request: Request) -> str:
    """Return whose key it is: a user's by token and session alike, else an address'."""
    if request.user.pk is None:
        return f"address:{address_of(request)}"
    return f"user:{caller_name(request.user.pk)}"


def _fingerprint(request: Request, body: Any) -> bytes:
    """Return a digest of all that tells one request from another.

    It is keyed, since bodies hold what could be guessed from a plain one, such as passwords.
    """
    query = sorted((name, *values) for name, values in request.query_params.lists())
    canonical = json.dumps([request.method, request.path, query, body], sort_keys=True)
    return salted_hmac("jobs.idempotency", canonical, algorithm="sha256").digest()
