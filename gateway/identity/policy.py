"""Who may do what: one table of actions, roles and reach, enforced in one place for REST and sockets.

Rules:
1. `POLICY` is the only place that says who may do what. A route or frame names its action; nothing else compares roles
   or scopes.
2. A reach says with what: "platform" any organisation, "tenant" all of the caller's own, "event" what belongs to the
   event that a device is bound to, "own" what belongs to the caller as a person (their account, member profile, cards).
   Whatever is beyond the reach looks absent.
3. What is not in the table is not allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Literal, get_args

import msgspec

Role = Literal["superadmin", "org_admin", "staff", "member", "account", "api_key", "device"]
"""`account` is somebody signed in who has no part in the organisation at hand, or in any."""
Scope = Literal["manage", "read", "scan"]
OrgState = Literal["open", "suspended", "closed"]
Reach = Literal["platform", "tenant", "event", "own"]
Principal = Literal[
    "superadmin", "org_admin", "staff", "member", "account", "key:manage", "key:read", "key:scan", "device"
]
SCOPES: tuple[Scope, ...] = ("manage", "read", "scan")
PRINCIPALS: tuple[Principal, ...] = get_args(Principal)
_WIDTH: dict[Reach, int] = {"own": 0, "event": 1, "tenant": 2, "platform": 3}


class Action(msgspec.Struct, frozen=True):
    """What it is, in words for the docs, and who has which reach."""

    summary: str
    reach: Mapping[Principal, Reach]


def _grants(words: str) -> dict[Principal, Reach]:
    """Reads "superadmin:platform org_admin:tenant key:read:tenant"."""
    found: dict[Principal, Reach] = {}
    for word in words.split():
        name, _, reach = word.rpartition(":")
        principal = next(known for known in PRINCIPALS if known == name)
        found[principal] = next(known for known in _WIDTH if known == reach)
    return found


_PEOPLE = "org_admin:own staff:own member:own account:own"
_EVERYBODY_SIGNED_IN = "superadmin:own " + _PEOPLE
_MANAGERS = "org_admin:tenant key:manage:tenant"
_READERS = "org_admin:tenant staff:tenant key:read:tenant"
_OWNERS = "superadmin:platform org_admin:tenant key:manage:tenant"

POLICY: dict[str, Action] = {
    # Accounts and organisations.
    "account.self": Action("See and change one's own account and sessions", _grants(_EVERYBODY_SIGNED_IN)),
    "me.read": Action("See one's own profile", _grants(_EVERYBODY_SIGNED_IN)),
    "accounts.manage": Action("Make, see, suspend and resume accounts", _grants("superadmin:platform")),
    "orgs.create": Action("Open an organisation", _grants("superadmin:platform " + _PEOPLE)),
    "orgs.list": Action("List organisations", _grants("superadmin:platform " + _PEOPLE)),
    "orgs.read": Action(
        "See an organisation",
        _grants("superadmin:platform org_admin:tenant staff:tenant member:tenant key:read:tenant key:manage:tenant"),
    ),
    "orgs.update": Action("Change an organisation", _grants(_OWNERS)),
    "orgs.close": Action("Close an organisation for good", _grants("superadmin:platform org_admin:tenant")),
    "orgs.suspend": Action("Suspend and resume an organisation", _grants("superadmin:platform")),
    "plans.set": Action("Change an organisation's plan", _grants("superadmin:platform")),
    "leaderboards.pay_out": Action("Pay out a leaderboard", _grants(_MANAGERS)),
    "leaderboards.set": Action("Set an organisation's own leaderboards", _grants(_OWNERS)),
    "tiers.set": Action("Set how cards come into tiers", _grants(_OWNERS)),
    "roles.manage": Action(
        "Invite people, change and end their roles", _grants("superadmin:platform org_admin:tenant")
    ),
    "invitations.accept": Action("Accept an invitation", _grants(_EVERYBODY_SIGNED_IN)),
    "api_keys.manage": Action("Make, rotate and revoke API keys", _grants(_OWNERS)),
    "audit_log.read": Action("Read the log of administrative acts", _grants(_OWNERS)),
    # Members.
    "members.create": Action("Add and import members", _grants(_MANAGERS)),
    "members.update": Action("Change a member's profile", _grants(_MANAGERS + " member:own")),
    "members.read": Action("See a member", _grants(_READERS + " member:own")),
    "members.list": Action("List all members", _grants("org_admin:tenant key:read:tenant")),
    "members.search": Action("Search members (staff: from three characters on)", _grants(_READERS)),
    "members.export": Action("Take all members out as CSV (besides listing them)", _grants(_MANAGERS)),
    "members.erase": Action("Erase a member's personal data", _grants(_MANAGERS)),
    "member_schema.read": Action(
        "See the schema of members' attributes", _grants(_OWNERS + " staff:tenant key:read:tenant")
    ),
    "member_schema.change": Action("Set the schema of members' attributes", _grants(_OWNERS)),
    "members.link": Action("Link a member to an account, or end that", _grants(_MANAGERS + " member:own")),
    # Cards and points.
    "cards.issue": Action("Issue cards", _grants(_MANAGERS)),
    "cards.batch": Action("Issue and change many cards, and read their credentials", _grants(_MANAGERS)),
    "cards.change": Action("Suspend, resume, revoke, reissue, renew a card, set its tier and tag", _grants(_MANAGERS)),
    "cards.tag_keys": Action("Read the keys to write into a card's NFC tag", _grants(_MANAGERS)),
    "cards.list": Action("List cards", _grants("org_admin:tenant key:read:tenant member:own")),
    "cards.read": Action("See a card, its points and its ledger", _grants(_READERS + " member:own")),
    "cards.credential": Action("Get a card's credential", _grants(_MANAGERS + " member:own")),
    "cards.revocations": Action("Read which cards are revoked", _grants(_READERS + " device:tenant key:scan:tenant")),
    "cards.keys": Action(
        "Read the public keys of cards' credentials", _grants(_READERS + " device:tenant key:scan:tenant")
    ),
    "points.write": Action("Award, confirm, reverse and transfer points, top up wallets", _grants(_MANAGERS)),
    "points.spend": Action("Redeem, hold, capture and release points; pay", _grants(_MANAGERS + " staff:tenant")),
    # Coupons.
    "coupons.manage": Action("Define and change coupons", _grants(_MANAGERS)),
    "coupons.issue": Action("Issue codes of coupons, and see all of a code", _grants(_MANAGERS)),
    "coupons.read": Action("See coupons and the ends of their codes", _grants(_READERS + " key:manage:tenant")),
    "coupons.redeem": Action(
        "Redeem coupons at the till, hold, capture, release and roll back",
        _grants("org_admin:tenant staff:tenant key:manage:tenant key:scan:tenant"),
    ),
    "cards.coupons": Action("See a card's coupons", _grants(_READERS + " key:manage:tenant member:own")),
    # Rules.
    "rules.read": Action("See rules and their templates", _grants(_READERS)),
    "rules.change": Action("Make, change and delete rules", _grants(_MANAGERS)),
    # Events, doors and boards.
    "events.create": Action("Create events", _grants(_MANAGERS)),
    "events.change": Action("Change events and gates", _grants(_MANAGERS)),
    "events.read": Action("See events and their counts", _grants(_READERS + " device:event key:scan:tenant")),
    "scans.read": Action("Read the scan log and its statistics", _grants(_READERS)),
    "checkins.create": Action("Check in", _grants("org_admin:tenant staff:tenant key:scan:tenant device:event")),
    "checkins.force": Action("Let somebody in whom the door refuses", _grants(_MANAGERS)),
    "admission_list.read": Action(
        "See whom an event lets in by name", _grants(_READERS + " device:event key:scan:tenant")
    ),
    "devices.manage": Action("Pair, change and revoke scanner devices", _grants(_MANAGERS)),
    "devices.read": Action("See scanner devices", _grants(_READERS)),
    "devices.self": Action("See one's own device and choose its gate", _grants("device:own")),
    "live.open": Action(
        "Open the live socket (each topic asks for its own action)",
        _grants(_READERS + " member:tenant device:tenant key:scan:tenant"),
    ),
    "leaderboards.read": Action("See leaderboards", _grants(_READERS + " member:tenant device:tenant")),
}


def principals_of(role: Role, scopes: frozenset[str]) -> tuple[Principal, ...]:
    """Under which names of the table a caller goes: an API key under one for each of its scopes."""
    if role != "api_key":
        return (role,)
    return tuple(name for name in PRINCIPALS if name.startswith("key:") and name.removeprefix("key:") in scopes)


@lru_cache(1_024)
def reaches_of(role: Role, scopes: frozenset[str]) -> Mapping[str, Reach]:
    """All that such a caller may do, with the widest reach of its names. Kept, so that the hot path pays a look-up."""
    found: dict[str, Reach] = {}
    for principal in principals_of(role, scopes):
        for name, action in POLICY.items():
            reach = action.reach.get(principal)
            if reach is not None and (name not in found or _WIDTH[reach] > _WIDTH[found[name]]):
                found[name] = reach
    return found
