"""Whose request this is, as far as a throttle can know."""

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from django.http import HttpRequest

from pgjobs.conf import conf

# One customer of a provider holds at least so many bits of an IPv6 network, and each of the 2^64
# addresses in it.
IPV6_PREFIX_LENGTH = 64
UNKNOWN = "unknown"


def address_of(request: HttpRequest) -> str:
    """Return the address that sent the request: IPv4, the /64 network of IPv6, or "unknown".

    Each proxy adds to X-Forwarded-For whom it spoke to. Behind n proxies (JOBS_TRUSTED_PROXIES; 1
    behind a TLS proxy unless it says otherwise) it is the n-th hop from the right; those before it
    are whatever the client made up. Without a proxy the header is ignored.
    """
    proxies = _trusted_proxies()
    address = _forwarded(request, proxies) if proxies else None
    address = address or _parsed(request.META.get("REMOTE_ADDR", ""))
    if address is None:
        return UNKNOWN  # a server that listens on a socket file names no address
    if isinstance(address, IPv6Address):
        return str(IPv6Network((int(address), IPV6_PREFIX_LENGTH), strict=False))
    return str(address)


def _trusted_proxies() -> int:
    number: int | None = conf.JOBS_TRUSTED_PROXIES
    return int(conf.JOBS_BEHIND_TLS_PROXY) if number is None else number


def _forwarded(request: HttpRequest, proxies: int) -> IPv4Address | IPv6Address | None:
    hops = request.headers.get("X-Forwarded-For", "").split(",")
    # With fewer hops than proxies the request came in behind the first of them.
    return _parsed(hops[-proxies:][0])


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(_without_port(text.strip()))
    except ValueError:
        return None
    # A server that listens on both kinds writes IPv4 as ::ffff:192.0.2.1, all in one /64.
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


def _without_port(text: str) -> str:
    """Return the address in 192.0.2.1:443, [2001:db8::1]:443 or [2001:db8::1]; else the text."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    address, colon, port = text.partition(":")
    return address if colon and ":" not in port else text
