"""Whose address a request has: the connection's, or what trusted proxies say; made-up headers do not help."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.proxies import Origin, TrustedProxies, address_key

PROXIES = TrustedProxies(["10.0.0.0/8", "2001:db8:1::/48", "192.0.2.7"])
EDGE = "10.0.0.1"


def scope(peer: str | None, scheme: str = "http", **headers: str | list[str]) -> dict[str, Any]:
    lines = []
    for name, values in headers.items():
        for value in [values] if isinstance(values, str) else values:
            lines.append((name.replace("_", "-").encode(), value.encode("latin-1")))
    return {"client": (peer, 1234) if peer is not None else None, "scheme": scheme, "headers": lines}


@pytest.mark.parametrize(
    ("peer", "headers", "address"),
    [
        # Nobody is believed who is not trusted.
        ("203.0.113.9", {"x_forwarded_for": "1.2.3.4"}, "203.0.113.9"),
        ("203.0.113.9", {"forwarded": "for=1.2.3.4"}, "203.0.113.9"),
        ("192.0.2.8", {"x_forwarded_for": "1.2.3.4"}, "192.0.2.8"),
        # Through one proxy, and through several.
        (EDGE, {"x_forwarded_for": "203.0.113.9"}, "203.0.113.9"),
        ("192.0.2.7", {"x_forwarded_for": "203.0.113.9"}, "203.0.113.9"),
        (EDGE, {"x_forwarded_for": "203.0.113.9, 10.2.3.4, 10.9.9.9"}, "203.0.113.9"),
        (EDGE, {"x_forwarded_for": ["203.0.113.9", "10.2.3.4"]}, "203.0.113.9"),
        (EDGE, {"forwarded": "for=203.0.113.9;proto=https, for=10.2.3.4"}, "203.0.113.9"),
        (EDGE, {"forwarded": 'by=10.0.0.1;For="[2001:db8::17]:4711"'}, "2001:db8::17"),
        ("2001:db8:1::5", {"x_forwarded_for": "[2001:db8::17]:443"}, "2001:db8::17"),
        ("::ffff:10.0.0.1", {"x_forwarded_for": "203.0.113.9:5123"}, "203.0.113.9"),
        # What the client made up stands left of what the proxy saw.
        (EDGE, {"x_forwarded_for": "1.1.1.1, 203.0.113.9"}, "203.0.113.9"),
        (EDGE, {"x_forwarded_for": "10.1.1.1, 203.0.113.9"}, "203.0.113.9"),
        (EDGE, {"x_forwarded_for": ["1.1.1.1", "203.0.113.9"]}, "203.0.113.9"),
        (EDGE, {"forwarded": 'for="1.1.1.1, for=2.2.2.2", for=203.0.113.9'}, "203.0.113.9"),
        (EDGE, {"x_forwarded_for": ",".join(["10.0.0.2"] * 1_000 + ["203.0.113.9"])}, "203.0.113.9"),
        # One header of the client's own beside the proxy's: neither is believed, unless they agree.
        (EDGE, {"forwarded": "for=1.1.1.1", "x_forwarded_for": "203.0.113.9"}, EDGE),
        (EDGE, {"forwarded": "for=203.0.113.9", "x_forwarded_for": "1.1.1.1"}, EDGE),
        (EDGE, {"forwarded": "for=203.0.113.9", "x_forwarded_for": "203.0.113.9"}, "203.0.113.9"),
        # What cannot be read ends at the proxy that reported it.
        (EDGE, {"x_forwarded_for": "unknown"}, EDGE),
        (EDGE, {"x_forwarded_for": "203.0.113.9, nonsense, 10.2.3.4"}, "10.2.3.4"),
        (EDGE, {"x_forwarded_for": "203.0.113.9, 999.1.1.1"}, EDGE),
        (EDGE, {"forwarded": "for=_hidden, for=10.2.3.4"}, "10.2.3.4"),
        (EDGE, {"forwarded": "proto=https"}, EDGE),
        (EDGE, {"forwarded": 'for="unclosed'}, EDGE),
        (EDGE, {"forwarded": "for=203.0.113.9, =;;"}, EDGE),
        (EDGE, {"x_forwarded_for": "fe80::1%eth0"}, EDGE),
        (EDGE, {"x_forwarded_for": ""}, EDGE),
        (EDGE, {}, EDGE),
        # All are ours: the one furthest away.
        (EDGE, {"x_forwarded_for": "10.5.5.5, 10.2.3.4"}, "10.5.5.5"),
    ],
)
def test_the_rightmost_hop_that_is_no_trusted_proxy_is_the_client(
    peer: str, headers: dict[str, str | list[str]], address: str
) -> None:
    assert PROXIES.origin(scope(peer, **headers)).address == address


def test_by_default_nobody_is_trusted() -> None:
    for peer in ("127.0.0.1", "10.0.0.1", "::1"):
        found = TrustedProxies().origin(scope(peer, x_forwarded_for="1.2.3.4", x_forwarded_proto="https"))
        assert found == Origin(peer, False)


def test_a_connection_without_an_address() -> None:
    assert PROXIES.origin(scope(None, x_forwarded_for="1.2.3.4")) == Origin("", False)


@pytest.mark.parametrize(
    ("peer", "scheme", "headers", "is_secure"),
    [
        ("203.0.113.9", "https", {}, True),
        ("203.0.113.9", "wss", {}, True),
        ("203.0.113.9", "http", {"x_forwarded_for": "1.2.3.4", "x_forwarded_proto": "https"}, False),
        (EDGE, "http", {"x_forwarded_for": "203.0.113.9", "x_forwarded_proto": "https"}, True),
        (EDGE, "http", {"forwarded": "for=203.0.113.9;proto=HTTPS, for=10.2.2.2;proto=http"}, True),
        (EDGE, "https", {"x_forwarded_for": "203.0.113.9", "x_forwarded_proto": "http"}, False),
        (EDGE, "https", {"x_forwarded_for": "203.0.113.9"}, True),
    ],
)
def test_the_scheme_is_that_of_the_clients_connection(
    peer: str, scheme: str, headers: dict[str, str | list[str]], is_secure: bool
) -> None:
    assert PROXIES.origin(scope(peer, scheme, **headers)).is_secure is is_secure


@pytest.mark.parametrize("network", ["", "10.0.0.1/8", "example.org", "10.0.0.0/33"])
def test_what_is_no_network_is_refused(network: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        TrustedProxies([network])


def test_an_ipv6_customer_is_limited_by_the_network() -> None:
    assert address_key("2001:db8:1:2::1") == address_key("2001:db8:1:2:ffff::") != address_key("2001:db8:1:3::1")
    assert address_key("192.0.2.1") != address_key("192.0.2.2")
    assert address_key("") == ""
