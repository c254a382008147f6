"""Versions of what organisers change, for changes under a condition ("only if it still is as I saw it").

Rules:
1. A version is a digest of the state itself, so nothing has to be counted, stored or projected for it: whoever knows
   the state knows its version, the actor that decides as well as the gateway that shows it.
2. Whether a version holds is decided by the actor, together with the change
   (`actors.admin`, `actors.coupons`).
"""

from __future__ import annotations

from hashlib import blake2b

import msgspec

from actors.coupon_terms import CouponTerms
from actors.terms import EventTerms, Gate, TenantSettings, TierTerms
from rules.language import RuleDefinition

VERSION_BYTES = 8


def event_version(terms: EventTerms) -> str:
    """The version of an event, its gates included, in hexadecimal."""
    return _digest(terms)


def gate_version(gate: Gate) -> str:
    """The version of a gate by itself."""
    return _digest(gate)


def coupon_version(terms: CouponTerms) -> str:
    """The version of a coupon's terms."""
    return _digest(terms)


def tenant_version(name: str, settings: TenantSettings) -> str:
    """The version of what the engine keeps of an organisation and organisers change."""
    return _digest((name, settings))


def tiers_version(tiers: TierTerms | None) -> str:
    """The version of how an organisation's cards come into tiers."""
    return _digest(tiers)


def boards_version(settings: TenantSettings) -> str:
    """The version of how an organisation's leaderboards are."""
    return _digest((settings.boards, settings.board_grace_ms))


def rule_version(definition: RuleDefinition) -> str:
    """The version of a rule."""
    return _digest(definition)


def _digest(value: object) -> str:
    return blake2b(msgspec.msgpack.encode(value), digest_size=VERSION_BYTES).hexdigest()
