"""Where a request comes from: the address of its connection, or what trusted proxies say of it. Pure.

Rules:
1. Headers are believed only where the connection comes from a trusted proxy (`MASTERVIP_TRUSTED_PROXIES`, none by
   default). Then the right-most hop that is no trusted proxy is the client: what stands left of it the client may have
   made up.
2. Both ways of saying so are understood: `X-Forwarded-For` / `X-Forwarded-Proto` and `Forwarded` (RFC 7239). A proxy
   that writes one of them passes on what the client puts into the other, so where both come and differ neither is
   believed: the address is then the proxy's.
3. A hop that cannot be read ("unknown", hidden, malformed) ends the way there: the address is that of the proxy which
   reported it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final

import msgspec

_HOPS_MAX: Final = 32
_PAIR = re.compile(r'\s*([!#$%&\'*+.^_`|~\w-]+)=([!#$%&\'*+.^_`|~\w:\[\]-]+|"(?:[^"\\]|\\.)*")\s*(;|,|\Z)', re.ASCII)
_WITH_PORT = re.compile(r"\[([^\]]*)\](?::\w+)?\Z|([^:]+):\w+\Z")


class Origin(msgspec.Struct, frozen=True):
    """Where a request comes from. `address` is "" for a connection without one."""

    address: str
    is_secure: bool


class TrustedProxies:
    """The networks (CIDR notation, or single addresses) of the proxies in front of us. Raises `ValueError`."""

    def __init__(self, networks: Sequence[str] = ()) -> None:
        self._networks = tuple(ip_network(network.strip()) for network in networks)
        self._trusts = lru_cache(4_096)(self._is_within)

    def origin(self, scope: Any) -> Origin:
        """The origin of an ASGI request or socket."""
        peer = (scope.get("client") or ("",))[0]
        direct = Origin(canonical(peer) or peer, scope.get("scheme") in ("https", "wss"))
        if not self._networks or not self._trusts(direct.address):
            return direct
        found = [self._client(direct, hops) for hops in (_x_forwarded(scope), _forwarded(scope)) if hops]
        if not found or any(other.address != found[0].address for other in found):
            return direct
        return found[-1]

    def _client(self, direct: Origin, hops: Sequence[tuple[str, str]]) -> Origin:
        """Rule 1: from the right, to the first that is not ours."""
        address, is_secure = direct.address, direct.is_secure
        for text, scheme in reversed(hops[-_HOPS_MAX:]):
            hop = canonical(text)
            if hop is None:
                break
            address = hop
            is_secure = scheme == "https" if scheme else is_secure
            if not self._trusts(hop):
                break
        return Origin(address, is_secure)

    def _is_within(self, address: str) -> bool:
        parsed = canonical(address)
        return parsed is not None and any(ip_address(parsed) in network for network in self._networks)


@lru_cache(4_096)
def canonical(text: str) -> str | None:
    """An address in its one form, without port and brackets; None where it is none. IPv4 within IPv6 is IPv4."""
    with_port = _WITH_PORT.match(text)
    if with_port is not None and (with_port[1] is not None or "." in text):
        text = with_port[1] or with_port[2]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return None
        return str(address.ipv4_mapped or address)
    return str(address)


@lru_cache(4_096)
def address_key(address: str) -> str:
    """What is limited when an address is: an IPv4 address, or the /64 that an IPv6 customer has at least."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    return str(parsed) if isinstance(parsed, IPv4Address) else str(IPv6Network((parsed, 64), strict=False))


def _x_forwarded(scope: Any) -> list[tuple[str, str]]:
    """The hops, each with the scheme; proxies write the scheme of the client's connection, once."""
    schemes = [part.strip().lower() for part in _joined(scope, b"x-forwarded-proto").split(",")]
    return [(part.strip(), schemes[-1]) for part in _joined(scope, b"x-forwarded-for").split(",") if part.strip()]


def _forwarded(scope: Any) -> list[tuple[str, str]]:
    """The hops of `Forwarded`; from a malformed element on, one hop that cannot be read."""
    return list(_elements(_joined(scope, b"forwarded")))


def _elements(text: str) -> Iterator[tuple[str, str]]:
    place = 0
    pairs: dict[str, str] = {}
    while place < len(text):
        found = _PAIR.match(text, place)
        if found is None:
            yield "", ""
            return
        value = found[2]
        if value[0] == '"':
            value = re.sub(r"\\(.)", r"\1", value[1:-1])
        pairs[found[1].lower()] = value
        place = found.end()
        if found[3] != ";":
            yield pairs.get("for", ""), pairs.get("proto", "").lower()
            pairs = {}


def _joined(scope: Any, name: bytes) -> str:
    """All lines of a header as one."""
    return ",".join(value.decode("latin-1") for found, value in scope["headers"] if found == name)
