"""Reading request bodies: JSON only, bounded, and only what can be stored."""

import json
from collections.abc import Mapping
from typing import IO, Any, NoReturn

from django.utils.translation import gettext as _
from rest_framework.exceptions import APIException, ParseError
from rest_framework.parsers import BaseParser

from pgjobs.conf import conf
from pgjobs.contract.json_values import check_json

MAX_DIGITS = 100


class BodyTooLargeError(APIException):
    """The body is longer than JOBS_REQUEST_MAX_BYTES."""

    status_code = 413
    default_code = "body_too_large"

    def __init__(self) -> None:
        most = conf.JOBS_REQUEST_MAX_BYTES
        super().__init__(_("The body may have {most} bytes at most.").format(most=most))


class StrictJSONParser(BaseParser):
    """Parses JSON and refuses what Postgres or JSON cannot hold.

    Refused with 400: text that is not JSON or not UTF-8, NaN and Infinity, NUL and lone
    surrogates, integers beyond 2^53, more than 20 levels, a key given twice. 413: too long.
    """

    media_type = "application/json"

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        body = _read(stream)
        try:
            value = json.loads(
                body.decode(),
                object_pairs_hook=_no_key_twice,
                parse_constant=_no_constant,
                parse_int=_short_integer,
            )
        except UnicodeDecodeError:
            raise ParseError(_("The body is not UTF-8.")) from None
        except RecursionError:
            raise ParseError(_("The body is nested too deeply.")) from None
        except ValueError as error:
            raise ParseError(_("The body is not valid JSON: {error}").format(error=error)) from None
        check_json(value)
        return value


def _read(stream: IO[bytes]) -> bytes:
    limit = conf.JOBS_REQUEST_MAX_BYTES
    body = stream.read(limit + 1)
    if len(body) > limit:
        raise BodyTooLargeError
    return body


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return value


def _short_integer(digits: str) -> int:
    # Past 4,300 digits Python refuses, with advice for whoever runs it.
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"an integer has more than {MAX_DIGITS} digits")
    return int(digits)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
