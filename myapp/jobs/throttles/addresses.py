"""Whose request this is, as far as a throttle can know."""

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from django.conf import settings
from django.http import HttpRequest

# One customer of a provider holds at least so many bits of an IPv6 network, and each of the 2^64
# addresses in it.
IPV6_PREFIX_LENGTH = 64
UNKNOWN = "unknown"


def address_of(request: HttpRequest) -> str:
    """Return the address that sent the request: IPv4, the /64 network of IPv6, or "unknown".

    Behind a proxy (JOBS_BEHIND_TLS_PROXY) it is the last hop of X-Forwarded-For, which the proxy
    wrote; those before it are whatever the client made up. Without one the header is ignored.
    """
    address = _forwarded(request) if settings.JOBS_BEHIND_TLS_PROXY else None
    address = address or _parsed(request.META.get("REMOTE_ADDR", ""))
    if address is None:
        return UNKNOWN  # a server that listens on a socket file names no address
    if isinstance(address, IPv6Address):
        return str(IPv6Network((int(address), IPV6_PREFIX_LENGTH), strict=False))
    return str(address)


def _forwarded(request: HttpRequest) -> IPv4Address | IPv6Address | None:
    return _parsed(request.headers.get("X-Forwarded-For", "").rpartition(",")[2])


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.strip())
    except ValueError:
        return None
    # A server that listens on both kinds writes IPv4 as ::ffff:192.0.2.1, all in one /64.
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address
