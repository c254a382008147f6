"""Two organisations with one caller of every kind, and objects of every kind for requests to name.

Rules:
1. Objects are made through the API, with a key that may do everything, so that none depends on what is being tested.
2. A `Bundle` is objects that belong together: the card is the member's, the gate the event's. They are made when first
   asked for. What a request may change gets a bundle of its own; what only reads, and every stranger, shares one.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from actors.card_numbers import number_of
from gateway.credentials import CredentialBook
from gateway.identity.policy import Principal
from gateway.ids import ALPHABET, derived_id
from gateway.orgs.invitations import PREFIX
from gateway.render import rfc3339
from tests.edge.in_process import SUPERADMIN_TOKEN, System, clock_ms
from tests.security.fields import ORG_NAME

_numbers = count()
FORGER = CredentialBook(b"f" * 32)
POINTS = 1_000


@dataclass(frozen=True)
class Seat:
    """A caller of an organisation. `own` are the objects that are its own, or of the event that it is bound to; what
    else there is of their kinds looks absent to it. `email` is that of somebody signed in."""

    name: str
    principal: Principal
    token: str
    own: Mapping[str, str] = field(default_factory=dict)
    email: str = ""


@dataclass
class Tenant:
    """An organisation. `key` may do everything an organiser can."""

    org_id: str
    key: str
    shared: Bundle = field(init=False)
    seats: list[Seat] = field(default_factory=list)


QUESTION = {"id": "q_1", "text": "Any allergies?"}

# Tables with a column, and what of them is an organisation's.
_TABLES = """
SELECT c.table_name FROM information_schema.columns c JOIN information_schema.tables t USING (table_schema, table_name)
WHERE c.table_schema = 'public' AND c.column_name = $1 AND t.table_type = 'BASE TABLE' ORDER BY 1
"""
_OWNED = {
    "tenant_id": "tenant_id = $1",
    "account_id": "account_id IN (SELECT account_id FROM memberships WHERE tenant_id = $1)",
}
_DIGEST = "SELECT count(*), md5(string_agg(md5(t::text), '' ORDER BY md5(t::text))) FROM {table} t WHERE {condition}"


class World:
    """The two organisations on one system."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.tenants: list[Tenant] = []

    async def settle(self) -> None:
        """Makes both, with everything that strangers will name."""
        for _ in range(2):
            org = await self.system.open_org(ORG_NAME)
            tenant = Tenant(org["id"], org["key"])
            tenant.shared = self.bundle(tenant)
            self.tenants.append(tenant)
            for kind in MAKERS:
                await tenant.shared.get(kind)
            await self._fill(tenant)

    def pairs(self) -> list[tuple[Tenant, Tenant]]:
        """Each organisation with the other."""
        one, two = self.tenants
        return [(one, two), (two, one)]

    def bundle(self, tenant: Tenant, own: Mapping[str, str] | None = None) -> Bundle:
        """New objects, those of `own` excepted."""
        return Bundle(self.system, tenant, dict(own or {}))

    async def _fill(self, tenant: Tenant) -> None:
        """A second one of what lists show, so that there are second pages."""
        spare = self.bundle(tenant)
        for kind in ("gate", "invitation", "import", "batch", "coupon"):
            await spare.get(kind)
        rule = await tenant.shared.get("rule")
        await self.system.made("POST", f"/v1/rules/{rule}/state", {"state": "paused"}, tenant.key)
        bundle = self.bundle(tenant, {"event": await tenant.shared.get("event")})
        for each in (tenant.shared, bundle):
            scan = {"event_id": await each.get("event"), "credential": await each.get("credential")}
            await self.system.made("POST", "/v1/checkins", scan, tenant.key)
            late = {**scan, "scanned_at": "2026-01-01T00:00:00.000Z"}
            await self.system.made("POST", "/v1/checkins:batch", {"items": [late]}, tenant.key)
            listed = {"add": [await each.get("card")]}
            await self.system.made("POST", f"/v1/events/{scan['event_id']}/admission-list", listed, tenant.key)

    async def digest(self, tenant: Tenant) -> dict[str, str]:
        """What Postgres holds of an organisation, by table: a number of rows and a sum of all that is in them."""
        await self.projected(tenant)
        async with self.system.parts.pool.acquire() as connection:
            return {
                name: str(await connection.fetchrow(_DIGEST.format(table=name, condition=condition), tenant.org_id))
                for column, condition in _OWNED.items()
                for (name,) in await connection.fetch(_TABLES, column)
            }

    async def signed_in(self, email: str) -> tuple[str, str]:
        """The access token and the id of a new session of an account."""
        token = (await self.system.login(email))["access_token"]
        page = await self.system.made("GET", "/v1/auth/sessions", token=token)
        return token, next(each["id"] for each in page["items"] if each["is_current"])

    async def spare_org(self, seat: Seat) -> str:
        """An organisation that can be done without; somebody signed in is an admin of it."""
        org_id: str = (await self.system.open_org(ORG_NAME))["id"]
        if seat.principal == "org_admin":
            await self.system.grant(seat.own["account"], org_id, "org_admin")
        return org_id

    async def projected(self, tenant: Tenant) -> None:
        """Waits until Postgres holds what the engine confirmed."""
        parts = self.system.parts
        assert await parts.freshness.is_fresh(tenant.org_id)

    async def cursor(self, tenant: Tenant, address: str, token: str) -> str:
        """The cursor of the second page of a list, "" if it has none."""
        await self.projected(tenant)
        mark = "&" if "?" in address else "?"
        page = await self.system.made("GET", f"{address}{mark}limit=1", token=token)
        return page["next_cursor"] or ""


class Bundle:
    """Objects of one organisation that belong together (rule 2)."""

    def __init__(self, system: System, tenant: Tenant, ids: dict[str, str]) -> None:
        self.system = system
        self.tenant = tenant
        self.ids = ids

    async def get(self, kind: str) -> str:
        """The object's id."""
        if kind not in self.ids:
            self.ids[kind] = await MAKERS[kind](self)
        return self.ids[kind]

    def take(self, own: Mapping[str, str]) -> None:
        """Puts these in the place of its own, and forgets what belonged to those."""
        for kind in own:
            for dependent in DEPENDENTS.get(kind, ()):
                self.ids.pop(dependent, None)
        self.ids.update(own)

    async def made(self, path: str, body: Any) -> Any:
        """What a POST of the organiser answers."""
        return await self.system.made("POST", path, body, self.tenant.key)


async def _org(bundle: Bundle) -> str:
    return bundle.tenant.org_id


async def _member(bundle: Bundle) -> str:
    return str((await bundle.made("/v1/members", {"name": "Mel"}))["id"])


async def _card(bundle: Bundle) -> str:
    card = await bundle.made("/v1/cards", {"member_id": await bundle.get("member")})
    bundle.ids["credential"] = card["credential"]
    bundle.ids["card_number"] = card["number"]
    path = f"/v1/cards/{card['id']}"
    # Entries 3 and 4 are what can be confirmed, and captured or released (`tests.security.fields`).
    for verb, asked in (
        ("points/award", {"amount": POINTS}),
        ("points/award", {"amount": POINTS}),
        ("points/award", {"amount": 1, "pending": True}),
        ("points/hold", {"amount": 1}),
        ("wallet/top-up", {"amount": POINTS}),
    ):
        await bundle.made(f"{path}/{verb}", asked)
    tag = {"uid": await _new_tag(bundle)}
    await bundle.system.made("PUT", f"{path}/tag", tag, bundle.tenant.key)
    return str(card["id"])


async def _other_card(bundle: Bundle) -> str:
    return str((await bundle.made("/v1/cards", {"member_id": await bundle.get("member")}))["id"])


async def _card_number(bundle: Bundle) -> str:
    path = f"/v1/cards/{await bundle.get('card')}"
    return str((await bundle.system.made("GET", path, token=bundle.tenant.key))["number"])


async def _new_tag(bundle: Bundle) -> str:
    return f"04{next(_numbers):012X}"


async def _credential(bundle: Bundle) -> str:
    path = f"/v1/cards/{await bundle.get('card')}/credential"
    return str((await bundle.system.made("GET", path, token=bundle.tenant.key))["credential"])


async def _event(bundle: Bundle) -> str:
    event = await bundle.made(
        "/v1/events", {"name": "Gala", "capacity": 100, "gates": [{"name": "N"}], "questions": [QUESTION]}
    )
    bundle.ids["gate"] = event["gates"][0]["id"]
    return str(event["id"])


async def _closed_event(bundle: Bundle) -> str:
    """One whose window is frozen."""
    body = {"name": "Gala", "capacity": 100, "doors_close": rfc3339(clock_ms() - 30 * 86_400_000)}
    return str((await bundle.made("/v1/events", body))["id"])


async def _paid_event(bundle: Bundle) -> str:
    event_id = await _closed_event(bundle)
    await bundle.made("/v1/leaderboards/points/payout", {"window": f"event:{event_id}", "prizes": [1]})
    return event_id


async def _gate(bundle: Bundle) -> str:
    return str((await bundle.made(f"/v1/events/{await bundle.get('event')}/gates", {"name": "S"}))["id"])


async def _scan(bundle: Bundle) -> str:
    """An admission that can be annulled."""
    names = {"event_id": await bundle.get("event"), "credential": await bundle.get("credential")}
    return str((await bundle.made("/v1/checkins", names))["scan_id"])


async def _coupon(bundle: Bundle) -> str:
    value = {"type": "item", "text": "A tea"}
    return str((await bundle.made("/v1/coupons", {"name": "Tea", "value": value}))["id"])


async def _coupon_code(bundle: Bundle) -> str:
    """One that any card may use, with another, and two for the card."""
    path, card = f"/v1/coupons/{await bundle.get('coupon')}/codes", await bundle.get("card")
    await bundle.made(path, {"card_ids": [card, card]})
    return str((await bundle.made(path, {"count": 2}))["items"][0]["code"])


async def _grant(bundle: Bundle) -> str:
    """Granted to the card by a rule."""
    action = {"action": "grant_coupon", "coupon_id": await bundle.get("coupon")}
    rule = {"name": "Gift", "on": "top_up", "then": [action], "state": "active"}
    made, card = await bundle.made("/v1/rules", {"rule": rule}), f"/v1/cards/{await bundle.get('card')}"
    await bundle.made(f"{card}/wallet/top-up", {"amount": 1})
    await bundle.made(f"/v1/rules/{made['id']}/state", {"state": "paused"})
    listed = await bundle.system.made("GET", f"{card}/coupons?limit=200", token=bundle.tenant.key)
    return next(str(one["id"]) for one in listed["items"] if one["is_granted"])


async def _redeemed(bundle: Bundle, **more: str) -> str:
    issued = await bundle.made(f"/v1/coupons/{await bundle.get('coupon')}/codes", {"count": 1})
    body = {"code": issued["items"][0]["code"], "card_id": await bundle.get("card"), **more}
    return str((await bundle.made("/v1/coupons/redeem", body))["id"])


async def _redemption(bundle: Bundle) -> str:
    return await _redeemed(bundle)


async def _hold(bundle: Bundle) -> str:
    return await _redeemed(bundle, hold_until=rfc3339(clock_ms() + 3_600_000))


async def _device(bundle: Bundle) -> str:
    asked = await bundle.made(f"/v1/events/{await bundle.get('event')}/devices", {})
    paired = await bundle.system.made("POST", "/v1/devices/pair", {"code": asked["pairing_code"]})
    bundle.ids["device_token"] = paired["token"]
    return str(paired["device_id"])


async def _api_key(bundle: Bundle) -> str:
    return str((await bundle.made(f"/v1/orgs/{bundle.tenant.org_id}/api-keys", {"name": "Spare"}))["id"])


async def _account(bundle: Bundle) -> str:
    """Somebody with a part in the organisation."""
    signed_in = await bundle.system.signed_in("staff", bundle.tenant.org_id)
    page = await bundle.system.made("GET", "/v1/auth/sessions", token=signed_in["access_token"])
    bundle.ids["session"] = page["items"][0]["id"]
    return str(signed_in["account"]["id"])


async def _session(bundle: Bundle) -> str:
    await bundle.get("account")
    return bundle.ids["session"]


async def _invitation(bundle: Bundle) -> str:
    """To `email`, or to somebody who does not exist."""
    email = bundle.ids.setdefault("email", f"invited-{next(_numbers)}@example.com")
    path, body = f"/v1/orgs/{bundle.tenant.org_id}/invitations", {"email": email, "role": "member"}
    invitation = await bundle.system.made("POST", path, body, SUPERADMIN_TOKEN)
    await bundle.system.parts.post.settled()
    mail = bundle.system.mailbox.to(email)[-1]
    bundle.ids["invitation_token"] = next(word for word in mail.text.split() if word.startswith(PREFIX))
    return str(invitation["id"])


async def _invitation_token(bundle: Bundle) -> str:
    await bundle.get("invitation")
    return bundle.ids["invitation_token"]


async def _linked_member(bundle: Bundle) -> str:
    member = await bundle.get("member")
    await bundle.system.signed_in("member", bundle.tenant.org_id, member)
    return member


async def _changed_member(bundle: Bundle, **fields: str) -> None:
    path = f"/v1/members/{await bundle.get('member')}"
    await bundle.system.made("PATCH", path, fields, bundle.tenant.key)


async def _new_email(bundle: Bundle) -> str:
    return f"new-{next(_numbers):08}@example.com"


async def _member_email(bundle: Bundle) -> str:
    email = f"member-{next(_numbers):08}@example.com"
    await _changed_member(bundle, email=email)
    return email


async def _external_id(bundle: Bundle) -> str:
    external_id = f"external-{next(_numbers):08}"
    await _changed_member(bundle, external_id=external_id)
    return external_id


async def _import(bundle: Bundle) -> str:
    headers = {"Content-Type": "text/csv"}
    work = bundle.system.app.member_work.imports
    while await work.one():
        pass
    body = b"name,email\nImp,no address\n"
    started = await bundle.system.made("POST", "/v1/members/imports", body, bundle.tenant.key, **headers)
    assert await work.one()
    return str(started["id"])


async def _batch(bundle: Bundle) -> str:
    work = bundle.system.app.member_work.card_batches
    while await work.one():
        pass
    body = {"member_ids": ["mem_nobody"]}
    started = await bundle.system.made("POST", "/v1/cards/batches", body, bundle.tenant.key)
    assert await work.one()
    return str(started["id"])


async def _rule(bundle: Bundle) -> str:
    rule = {"name": "Points", "on": "exit", "then": [{"action": "award_points", "points": 1}]}
    return str((await bundle.made("/v1/rules", {"rule": rule}))["id"])


MAKERS: dict[str, Callable[[Bundle], Awaitable[str]]] = {
    "org": _org,
    "member": _member,
    "card": _card,
    "other_card": _other_card,
    "credential": _credential,
    "card_number": _card_number,
    "new_tag": _new_tag,
    "event": _event,
    "closed_event": _closed_event,
    "paid_event": _paid_event,
    "gate": _gate,
    "scan": _scan,
    "coupon": _coupon,
    "coupon_code": _coupon_code,
    "grant": _grant,
    "redemption": _redemption,
    "hold": _hold,
    "device": _device,
    "api_key": _api_key,
    "account": _account,
    "session": _session,
    "linked_member": _linked_member,
    "member_email": _member_email,
    "new_email": _new_email,
    "external_id": _external_id,
    "import": _import,
    "batch": _batch,
    "rule": _rule,
    "invitation": _invitation,
    "invitation_token": _invitation_token,
}


# What belongs to an object of a kind.
DEPENDENTS = {
    "member": ("card", "credential", "other_card", "card_number", "scan"),
    "card": ("credential", "card_number", "scan"),
    "event": ("gate", "scan"),
}


def absent(kind: str, like: str) -> str:
    """An id that could be one and is nobody's, of the same length; of a credential, one that somebody forged."""
    if kind == "credential":
        return FORGER.issue("org_none", derived_id("card", like), "bronze", clock_ms())
    if kind == "card_number":
        return number_of("org_none", next(_numbers))
    if kind == "new_tag":
        return f"04{next(_numbers):012X}"
    if kind == "cursor":
        return like[:-2] + ("AA" if not like.endswith("AA") else "BA")
    return like[:-8] + "".join(secrets.choice(ALPHABET) for _ in range(8))
