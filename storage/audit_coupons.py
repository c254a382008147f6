"""The auditor's checks of coupons: counted from the facts a second time, and what their rows have to be. Pure.

Rules:
1. Nothing here trusts `apply` or `storage.rows`: uses, holds and days are counted from what redemptions say.
2. No redemption goes beyond a limit of the terms that were in force at that moment.
3. A redemption ends once, a code is used by one redemption at a time, a bill has what goes together, and points come
   and go with their redemption.
"""

from __future__ import annotations

from typing import Any

import msgspec

from actors.coupon import Bill, Code, Coupon, CouponUse, Redemption
from actors.coupon_facts import (
    BillBegan,
    CodeGranted,
    CodeIssued,
    CodesIssued,
    CodeWithdrawn,
    CouponChanged,
    CouponDefined,
    CouponRedeemed,
    CouponUseBegan,
    RedemptionChanged,
)
from actors.coupon_terms import AmountValue, CouponCounts, CouponTerms, CouponValue
from actors.facts import Fact, PointsPosted
from actors.ledger import COUPON_CAUSE
from actors.rule_facts import RuleUnits
from storage.audit_checks import Findings
from storage.replay import WorldState

Row = tuple[Any, ...]
Key = tuple[str, str]
# From which state a redemption may come to which.
_STEPS = {"redeemed": "on_hold", "released": "on_hold", "lapsed": "on_hold", "rolled_back": "redeemed"}


class _Counted(msgspec.Struct):
    """A coupon, counted anew."""

    terms: CouponTerms
    issued: int = 0
    redeemed: int = 0
    on_hold: int = 0
    day: int = 0
    day_uses: int = 0
    by_card: dict[str, int] = msgspec.field(default_factory=dict)

    @property
    def counts(self) -> CouponCounts:
        return CouponCounts(self.issued, self.redeemed, self.on_hold, self.day, self.day_uses)


class _Redeemed(msgspec.Struct):
    state: str
    coupon_id: str
    card_id: str
    day: int
    points_seq: int


class CouponCheck:
    """`coupons`: counts are those of the history, limits hold at every prefix, a redemption ends once."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._coupons: dict[Key, _Counted] = {}
        self._redemptions: dict[Key, _Redeemed] = {}
        self._codes: dict[Key, str] = {}
        # What is on bills: of each redemption its kind and the end of its hold.
        self._bills: dict[Key, dict[str, tuple[str, str, int]]] = {}
        # Awards that redemptions announced and that the ledger has not shown yet.
        self._awards: dict[Key, tuple[str, int, str]] = {}

    def begin_entry(self) -> None:
        """What a redemption gives in points is in its own entry or nowhere."""
        for (_, redemption_id), (card_id, seq, kind) in self._awards.items():
            self._add(f"redemption {redemption_id} has no {kind} on card {card_id} (entry {seq})")
        self._awards.clear()

    def take(self, fact: Fact, place: str) -> None:
        """The next fact."""
        match fact:
            case CouponDefined() | CouponChanged():
                found = self._coupons.setdefault((fact.tenant_id, fact.coupon_id), _Counted(fact.terms))
                found.terms = fact.terms
            case CodesIssued():
                counted = self._counted(fact.tenant_id, fact.coupon_id, place)
                counted.issued += fact.count
                self._compare(fact.counts, counted, place)
            case CodeIssued():
                self._codes[fact.tenant_id, fact.code_id] = ""
            case CodeGranted() | CodeWithdrawn():
                counted = self._counted(fact.tenant_id, fact.coupon_id, place)
                counted.issued += 1 if isinstance(fact, CodeGranted) else -1
                self._codes.setdefault((fact.tenant_id, fact.code_id), "")
                self._compare(fact.counts, counted, place)
            case CouponRedeemed():
                self._redeemed(fact, place)
            case RedemptionChanged():
                self._changed(fact, place)
            case PointsPosted():
                self._posted(fact, place)

    def _add(self, detail: str) -> None:
        self._findings.add("coupons", detail)

    def _counted(self, tenant_id: str, coupon_id: str, place: str) -> _Counted:
        counted = self._coupons.get((tenant_id, coupon_id))
        if counted is None:
            self._add(f"{place} is about coupon {coupon_id}, which does not exist")
            counted = self._coupons[tenant_id, coupon_id] = _Counted(CouponTerms("", AmountValue(0)))
        return counted

    def _redeemed(self, fact: CouponRedeemed, place: str) -> None:
        key = (fact.tenant_id, fact.redemption_id)
        counted = self._counted(fact.tenant_id, fact.coupon_id, place)
        terms = counted.terms
        if key in self._redemptions:
            self._add(f"{place} makes redemption {fact.redemption_id} again")
        self._redemptions[key] = _Redeemed(fact.state, fact.coupon_id, fact.card_id, fact.day, fact.points_seq)
        if fact.day < counted.day:
            self._add(f"{place}: day {fact.day} after day {counted.day}")
        if fact.day != counted.day:
            counted.day, counted.day_uses = fact.day, 0
        counted.day_uses += 1
        counted.redeemed += fact.state == "redeemed"
        counted.on_hold += fact.state == "on_hold"
        uses = counted.by_card[fact.card_id] = counted.by_card.get(fact.card_id, 0) + 1
        if terms.state != "active":
            self._add(f"{place} redeems coupon {fact.coupon_id}, which is {terms.state}")
        for name, most, used in (
            ("in all", terms.uses_max, counted.redeemed + counted.on_hold),
            ("per card", terms.uses_per_card_max, uses),
            ("per day", terms.uses_per_day_max, counted.day_uses),
        ):
            if most and used > most:
                self._add(f"{place} is use {used} of coupon {fact.coupon_id}, the limit {name} is {most}")
        self._use_code(fact.tenant_id, fact.code_id, fact.redemption_id, place)
        self._put_on_bill(fact, place)
        self._compare(fact.counts, counted, place)
        self._compare_uses(fact, uses, place)
        if fact.points_seq:
            self._awards[key] = (fact.card_id, fact.points_seq, "award")

    def _use_code(self, tenant_id: str, code_id: str, redemption_id: str, place: str) -> None:
        if not code_id:
            return
        holder = self._codes.get((tenant_id, code_id))
        if holder is None:
            self._add(f"{place} uses code {code_id}, which was not issued")
        elif holder:
            self._add(f"{place} uses code {code_id}, which redemption {holder} has")
        self._codes[tenant_id, code_id] = redemption_id

    def _put_on_bill(self, fact: CouponRedeemed, place: str) -> None:
        if not fact.bill:
            return
        bill = self._bills.setdefault((fact.tenant_id, fact.bill), {})
        kind = (fact.stacking, fact.group)
        others = [(stacking, group) for stacking, group, until_ms in bill.values() if not 0 < until_ms <= fact.at_ms]
        if others and (fact.stacking == "alone" or any(other != kind for other in others)):
            self._add(f"{place} puts {kind} on bill {fact.bill}, which has {others}")
        bill[fact.redemption_id] = (*kind, fact.hold_until_ms)

    def _changed(self, fact: RedemptionChanged, place: str) -> None:
        key = (fact.tenant_id, fact.redemption_id)
        before = self._redemptions.get(key)
        counted = self._counted(fact.tenant_id, fact.coupon_id, place)
        if before is None or before.state != _STEPS.get(fact.state):
            state = before.state if before else "not there"
            self._add(f"{place}: redemption {fact.redemption_id}, which is {state}, becomes {fact.state}")
        if before is not None:
            points_seq = before.points_seq
            before.state, before.points_seq = fact.state, fact.points_seq
            if (fact.points_seq and not points_seq) or (points_seq and fact.state == "rolled_back"):
                kind = "award" if fact.state == "redeemed" else "reverse"
                self._awards[key] = (fact.card_id, fact.points_seq, kind)
        gives_back = fact.state != "redeemed"
        counted.redeemed += (fact.state == "redeemed") - (fact.state == "rolled_back")
        counted.on_hold -= fact.state != "rolled_back"
        counted.day_uses -= gives_back and fact.day == counted.day
        uses = counted.by_card[fact.card_id] = counted.by_card.get(fact.card_id, 0) - gives_back
        if fact.state == "lapsed" and fact.at_ms < fact.hold_until_ms:
            self._add(f"{place}: the hold of {fact.redemption_id} lapses before its time")
        if fact.bill and gives_back:
            self._bills.setdefault((fact.tenant_id, fact.bill), {}).pop(fact.redemption_id, None)
        elif fact.bill:
            bill = self._bills.setdefault((fact.tenant_id, fact.bill), {})
            bill[fact.redemption_id] = (fact.stacking, fact.group, 0)
        if fact.code_id and gives_back:
            self._codes[fact.tenant_id, fact.code_id] = ""
        self._compare(fact.counts, counted, place)
        self._compare_uses(fact, uses, place)

    def _compare(self, said: CouponCounts, counted: _Counted, place: str) -> None:
        if said != counted.counts:
            self._add(f"{place}: counts are {said}, counted {counted.counts}")
            counted.issued, counted.redeemed, counted.on_hold = said.issued, said.redeemed, said.on_hold
            counted.day, counted.day_uses = said.day, said.day_uses

    def _compare_uses(self, fact: CouponRedeemed | RedemptionChanged, uses: int, place: str) -> None:
        if fact.card_uses != uses:
            self._add(f"{place}: card {fact.card_id} has {fact.card_uses} uses, counted {uses}")

    def _posted(self, fact: PointsPosted, place: str) -> None:
        if fact.kind == "award" and not fact.rule and fact.cause.startswith(COUPON_CAUSE):
            key = (fact.tenant_id, fact.cause.removeprefix(COUPON_CAUSE))
            if self._awards.pop(key, None) != (fact.card_id, fact.entry_seq, "award"):
                self._add(f"{place} awards points for redemption {key[1]}, which announced none")
        elif fact.reverses:
            taken = (fact.card_id, fact.reverses, "reverse")
            for key, award in self._awards.items():
                if award == taken:
                    del self._awards[key]
                    break


class CouponRows:
    """What rows of coupons have to be: the values from the replayed actors, and at which facts they were set."""

    def __init__(self) -> None:
        self._positions: dict[tuple[str, str, str], int] = {}
        self._bills: dict[Key, int] = {}

    def take(self, fact: Fact, position: int) -> None:
        """The next fact."""
        match fact:
            case CouponDefined():
                self._set(fact.tenant_id, position, terms=fact.coupon_id, counts=fact.coupon_id)
            case CouponChanged():
                self._set(fact.tenant_id, position, terms=fact.coupon_id)
            case CodesIssued():
                self._set(fact.tenant_id, position, counts=fact.coupon_id)
            case CodeIssued():
                self._set(fact.tenant_id, position, code=fact.code_id)
            case CodeGranted():
                self._set(fact.tenant_id, position, counts=fact.coupon_id, code=fact.code_id)
            case CodeWithdrawn():
                self._set(fact.tenant_id, position, counts=fact.coupon_id, code_state=fact.code_id)
            case CouponUseBegan():
                self._set(fact.tenant_id, position, use=fact.coupon_use_id)
            case BillBegan():
                self._set(fact.tenant_id, position, bill=fact.bill_id)
                self._bills[fact.tenant_id, fact.bill_id] = fact.at_ms
            case CouponRedeemed() | RedemptionChanged():
                self._set(fact.tenant_id, position, counts=fact.coupon_id, use=fact.coupon_use_id)
                self._set(fact.tenant_id, position, redemption=fact.redemption_id)
                if fact.code_id:
                    self._set(fact.tenant_id, position, code_state=fact.code_id)

    def _set(self, tenant_id: str, position: int, **parts: str) -> None:
        for part, own_id in parts.items():
            self._positions[part, tenant_id, own_id] = position

    def expected(self, world: WorldState) -> dict[str, dict[Row, Row]]:
        """All rows by table and key."""
        rows: dict[str, dict[Row, Row]] = {name: {} for name in TABLES}
        for (tenant_id, own_id), coupon in world.actors["coupon"].items():
            key = (tenant_id, own_id)
            rows["coupons"][key] = (*key, *_coupon(coupon), self._positions["terms", *key])
            counts = msgspec.structs.astuple(coupon.counts)
            rows["coupon_counts"][key] = (*key, *counts, self._positions["counts", *key])
        for (tenant_id, own_id), code in world.actors["code"].items():
            key = (tenant_id, own_id)
            rows["coupon_codes"][key] = (*key, *_code(code), self._positions["code", *key])
            if ("code_state", *key) in self._positions:
                state = (code.state, code.redemption_id, self._positions["code_state", *key])
                rows["coupon_code_states"][key] = (*key, *state)
        for (tenant_id, own_id), use in world.actors["coupon_use"].items():
            rows["coupon_uses"][tenant_id, use.coupon_id, use.card_id] = self._use(use, own_id)
        for (tenant_id, own_id), bill in world.actors["bill"].items():
            rows["coupon_bills"][tenant_id, bill.bill] = self._bill(bill, own_id)
        for (tenant_id, own_id), redemption in world.actors["redemption"].items():
            key = (tenant_id, own_id)
            rows["coupon_redemptions"][key] = _redemption(redemption, self._positions["redemption", *key])
        return rows

    def _use(self, use: CouponUse, own_id: str) -> Row:
        return (use.tenant_id, use.coupon_id, use.card_id, use.uses, self._positions["use", use.tenant_id, own_id])

    def _bill(self, bill: Bill, own_id: str) -> Row:
        key = (bill.tenant_id, own_id)
        return (bill.tenant_id, bill.bill, self._bills[key], self._positions["bill", *key])


TABLES = (
    *("coupons", "coupon_counts", "coupon_codes", "coupon_code_states", "coupon_uses", "coupon_bills"),
    "coupon_redemptions",
)


def _coupon(coupon: Coupon) -> Row:
    terms = coupon.terms
    return (terms, terms.name, terms.state, terms.shared_code)


def _code(code: Code) -> Row:
    return (
        *(code.coupon_id, code.card_id, code.tail, code.issue_id, code.number, code.issued_at_ms),
        *(code.expires_at_ms, code.is_shared),
    )


def _redemption(redemption: Redemption, position: int) -> Row:
    return (
        *(redemption.tenant_id, redemption.redemption_id, redemption.coupon_id, redemption.code_id),
        *(redemption.card_id, redemption.bill, redemption.state, redemption.hold_until_ms, redemption.day),
        *(redemption.value, redemption.stacking, redemption.group, redemption.points_seq),
        *(redemption.began_at_ms, redemption.changed_at_ms, redemption.rules, redemption.rules_seq, position),
    )


def normalised(table: str, row: Row) -> Row:
    """A row as it comes from Postgres, with its JSON read."""
    if table == "coupons":
        return (*row[:2], msgspec.json.decode(row[2], type=CouponTerms), *row[3:])
    if table == "coupon_redemptions":
        value = msgspec.json.decode(row[9], type=CouponValue)
        rules = msgspec.json.decode(row[15], type=tuple[RuleUnits, ...])
        return (*row[:9], value, *row[10:15], rules, *row[16:])
    return row
