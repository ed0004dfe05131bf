"""Media types as clients write them, in Content-Type and Accept, read without an error."""

import codecs

from django.utils.http import parse_header_parameters

CHARSETS = ("utf-8", "ascii", "iso8859-1")


def parameters_of(media_type: str) -> dict[str, str] | None:
    """Return the parameters of a media type, None if Django cannot read it.

    It says so by a ValueError; of `x; a*0; a*` Python's own parser makes a TypeError.
    """
    try:
        return parse_header_parameters(media_type)[1]
    except (TypeError, ValueError):
        return None


def is_readable_content_type(content_type: str) -> bool:
    """Tell whether Django can make a request of it, and text of the request's body and query."""
    parameters = parameters_of(content_type)
    return parameters is not None and _is_charset(parameters.get("charset", "utf-8"))


def _is_charset(name: str) -> bool:
    """Tell whether it is one that forms come in, of which no text gets a lone surrogate.

    Python knows a hundred more, such as `hex`, `idna`, `utf-7` and `unicode_escape`.
    """
    try:
        return codecs.lookup(name).name in CHARSETS
    except (LookupError, ValueError):
        return False
