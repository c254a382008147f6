"""Versions of what organisers change, for changes under a condition ("only if it still is as I saw it").

Rules:
1. A version is a digest of the state itself, so nothing has to be counted, stored or projected for it: whoever knows
   the state knows its version, the actor that decides as well as the gateway that shows it.
2. Whether a version holds is decided by the actor, together with the change (`actors.admin`).
"""

from __future__ import annotations

from hashlib import blake2b

import msgspec

from actors.terms import EventTerms, Gate, TenantSettings, TierTerms

VERSION_BYTES = 8


def event_version(terms: EventTerms) -> str:
    """The version of an event, its gates included, in hexadecimal."""
    return _digest(terms)


def gate_version(gate: Gate) -> str:
    """The version of a gate by itself."""
    return _digest(gate)


def tenant_version(name: str, settings: TenantSettings) -> str:
    """The version of what the engine keeps of an organisation and organisers change."""
    return _digest((name, settings))


def tiers_version(tiers: TierTerms | None) -> str:
    """The version of how an organisation's cards come into tiers."""
    return _digest(tiers)


def _digest(value: object) -> str:
    return blake2b(msgspec.msgpack.encode(value), digest_size=VERSION_BYTES).hexdigest()
