"""The oracle's part for points and wallets (`tests.simulation.oracle`): ledgers, lots, holds, transfers, and what the
organisation's accounts say. Written from semantics.md ("Points"), with plain dicts.

A card's `lots` are {lot: (expires, left, spendable from)}, its `holds` {entry: {account, amount, until, parts}}, parts
being [lot, amount, expires].
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from actors.commands import AwardPoints, RedeemPoints, ReversePoints
from actors.points_commands import CapturePoints, ConfirmPoints, HoldPoints, ReleasePoints, TransferPoints
from tests.simulation.oracle_tiers import TierOracle
from tests.simulation.plain import Expected

NEVER = 253_402_300_799_999
HOLDS_MAX = 50
HOLD_MS = 15 * 60_000
AMOUNT_MAX = 1_000_000_000
SPENT = {"points": "points:redeemed", "wallet": "wallet:spent"}
GIVEN = {"points": "points:issued", "wallet": "wallet:topped_up"}
ENDED = {"capture": "hold_captured", "release": "hold_released", "lapse": "hold_lapsed"}


def refused(reason: str) -> list[Expected]:
    return [("CommandRefused", {"reason": reason})]


class PointsOracle(TierOracle):
    """Decides what moves points and money."""

    def __init__(self) -> None:
        super().__init__()
        self.ledgers: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.accounts: dict[tuple[str, str], int] = defaultdict(int)
        self.day_scores: dict[tuple[str, int, str], int] = defaultdict(int)
        self.event_scores: dict[tuple[str, str], int] = defaultdict(int)
        self.latest_day: dict[str, int] = defaultdict(int)

    # The other part.
    def with_rules(
        self, command: Any, trigger: str, before: dict[str, int], expected: list[Expected], root: int = -1
    ) -> list[Expected]:
        raise NotImplementedError

    def rules_undone(self, card_id: str, original: dict[str, Any]) -> list[Expected]:
        raise NotImplementedError

    def decide_points(self, command: Any) -> list[Expected]:
        match command:
            case AwardPoints():
                return self._award(command)
            case RedeemPoints():
                return self._redeem(command)
            case ReversePoints():
                return self._reverse(command)
            case ConfirmPoints():
                return self._confirm(command)
            case HoldPoints():
                return self._hold(command)
            case CapturePoints() | ReleasePoints():
                return self._end(command)
            case TransferPoints():
                return self._transfer(command)
        raise AssertionError(command)

    def alarm(self, card_id: str) -> int:
        """When the next of a card's points or holds lapses, its tier is looked at or its birthday comes; 0: never."""
        card = self.cards.get(card_id, {"lots": {}, "holds": {}, "tier_due": 0, "birthday_due": 0})
        times = [card[due] for due in ("tier_due", "birthday_due") if card[due]]
        times += [expires for expires, left, _ in card["lots"].values() if left and expires < NEVER]
        return min([*times, *(hold["until"] for hold in card["holds"].values())], default=0)

    # --- the ledger -------------------------------------------------------------------------------------------------

    def _post(self, command: Any, kind: str, amount: int, cause: str, **more: Any) -> Expected:
        """Adds an entry; `lots` in `more` is [(lot, left, expiry, spendable from)] as they are after it."""
        card_id = command if isinstance(command, str) else command.card_id
        card, account = self.cards[card_id], more.get("account", "points")
        card[account] += amount
        earned, event_id = more.get("earned", 0), more.get("event_id", "")
        card["earned"] += earned
        day, is_open = self._counted_on(card_id, earned, more)
        self.latest_day[card_id] = max(day, self.latest_day[card_id])
        self.day_scores[card["tenant"], day, card_id] += earned if is_open else 0
        if event_id and self.is_event_frozen(event_id):
            event_id = ""
        if event_id:
            self.event_scores[event_id, card_id] += earned
        for lot, left, expires, since in more.get("lots", ()):
            card["lots"][lot] = (expires, left, since)
        contra_after = None
        if amount:
            drawn_on = (card["tenant"], more["drawn_on"])
            self.accounts[drawn_on] -= amount
            contra_after = self.accounts[drawn_on]
        ledger = self.ledgers[card_id]
        entry = {
            "entry_seq": len(ledger) + 1,
            "kind": kind,
            "amount": amount,
            "account": account,
            "balance_after": card[account],
            "other_after": card["wallet" if account == "points" else "points"],
            "contra_after": contra_after,
            "held": more.get("held", 0),
            "due_ms": more.get("due_ms", 0),
            "cause": cause,
            "rule": more.get("rule", ""),
            "event_id": event_id,
            "day": day,
            "earned_after": card["earned"],
            "day_earned_after": self.day_scores[card["tenant"], day, card_id],
            "event_earned_after": self.event_scores[event_id, card_id] if event_id else 0,
            "takings": {lot: part for lot, part in more.get("takings", {}).items() if part},
            "lots": {lot: (expires, left, since) for lot, left, expires, since in more.get("lots", ())},
            "reverses": more.get("reverses", 0),
            "short_by": more.get("short_by", 0),
            "earned_on": None,
            "rules": [],
        }
        if earned > 0:
            entry["earned_on"] = self.earn(card_id, earned, more.get("when") or self.at_ms)
        elif earned:
            entry["earned_on"] = self.unearn(card_id, -earned, ledger[more["reverses"] - 1]["earned_on"])
        ledger.append({**entry, "earned": earned, "drawn_on": more.get("drawn_on", "")})
        return ("PointsPosted", entry)

    def local_day(self, card_id: str, when: int) -> date:
        zone = ZoneInfo(self.tenants[self.cards[card_id]["tenant"]]["time_zone"])
        return datetime.fromtimestamp(when / 1000, UTC).astimezone(zone).date()

    def first_open_day(self, card_id: str) -> date:
        """The first day whose window still takes what is told late."""
        return self.local_day(card_id, self.at_ms - self.tenants[self.cards[card_id]["tenant"]]["board_grace"])

    def is_event_frozen(self, event_id: str) -> bool:
        event = self.events[event_id]
        closed = event["terms"]["doors_close_ms"]
        return bool(closed) and closed + self.tenants[event["tenant"]]["board_grace"] <= self.at_ms

    def _counted_on(self, card_id: str, earned: int, more: dict[str, Any]) -> tuple[int, bool]:
        """The day of a posting, and whether what it earned or took back counts there."""
        latest = self.latest_day[card_id]
        oldest = _as_date(latest) - timedelta(days=7) if latest else date.min
        today = self.local_day(card_id, self.at_ms)
        today = today if today >= oldest else _as_date(latest)
        if not earned:
            return _as_number(today), False
        told = more.get("earned_day")
        own = _as_date(told) if told else self.local_day(card_id, more.get("when") or self.at_ms)
        if own >= max(oldest, self.first_open_day(card_id)):
            return _as_number(own), True
        return _as_number(today), earned > 0

    def lapse(self, card_id: str) -> list[Expected]:
        """What has fallen due, in the order of the times: at one time holds end before points lapse."""
        return self.settle_tier(card_id) + self._fallen_due(card_id)

    def _fallen_due(self, card_id: str) -> list[Expected]:
        card = self.cards[card_id]
        expected: list[Expected] = []
        while True:
            due = [(hold["until"], 0, key) for key, hold in card["holds"].items()]
            due += [(expires, 1, lot) for lot, (expires, left, _) in card["lots"].items() if left]
            due = [one for one in sorted(due) if one[0] <= self.at_ms]
            if not due:
                return expected
            # What a hold gives back may have lapsed before it ended; it goes before all that lapses later.
            _, is_lot, key = due[0]
            if is_lot:
                expires, left, since = card["lots"][key]
                change = {"lots": [(key, 0, expires, since)], "takings": {key: left}, "drawn_on": "points:expired"}
                expected.append(self._post(card_id, "expire", -left, f"expiry:{key}", **change))
            else:
                expected.append(self._end_hold(card_id, key, "lapse", 0))

    def _own_parts(self, card: dict[str, Any]) -> list[tuple[int, int, int, int]]:
        """What can be spent of lots: (expiry, lot, left, spendable from), soonest expiry first, then the oldest."""
        return sorted(
            (expires, lot, left, since)
            for lot, (expires, left, since) in card["lots"].items()
            if left and since <= self.at_ms
        )

    def _free(self, card: dict[str, Any]) -> int:
        """Points that are in no lot and no hold."""
        held = sum(hold["amount"] for hold in card["holds"].values() if hold["account"] == "points")
        return int(card["points"] - sum(left for _, left, _ in card["lots"].values()) - held)

    def _spend(self, card: dict[str, Any], amount: int, own: int = 0, *, takes_pending: bool = False) -> dict[str, Any]:
        """Soonest expiry first, then the oldest; `own` before all; then points in no lot; pending ones if allowed."""
        sources = [one for one in self._own_parts(card) if one[1] != own]
        if own in card["lots"]:
            expires, left, since = card["lots"][own]
            sources.insert(0, (expires, own, left, since))
        changed, takings = [], {}

        def draw(wanted: int, found: list[tuple[int, int, int, int]]) -> int:
            for expires, lot, left, since in found:
                part = min(left, wanted)
                wanted -= part
                if part:
                    changed.append((lot, left - part, expires, since))
                    takings[lot] = part
            return wanted

        free = self._free(card)
        rest = draw(amount, sources)
        if takes_pending:
            waiting = sorted(
                (expires, lot, left, since)
                for lot, (expires, left, since) in card["lots"].items()
                if left and since > self.at_ms and lot != own
            )
            from_free = min(rest, max(0, free))
            rest = from_free + draw(rest - from_free, waiting)
        return {"lots": changed, "takings": {**takings, 0: rest}}

    def available(self, card: dict[str, Any], account: str) -> int:
        """What can be spent now, whatever has been posted."""
        found = int(card[account])
        if account == "points":
            found -= sum(
                left for expires, left, since in card["lots"].values() if expires <= self.at_ms or since > self.at_ms
            )
        for hold in card["holds"].values():
            if hold["account"] == account:
                is_open = hold["until"] > self.at_ms
                found -= sum(amount for _, amount, expires in hold["parts"] if is_open or expires <= self.at_ms)
        return found

    def _short(self, card: dict[str, Any], account: str, amount: int, overdraft: int = 0) -> list[Expected]:
        if amount <= self.available(card, account) + overdraft:
            return []
        return refused("insufficient_points" if account == "points" else "insufficient_funds")

    # --- what is asked ----------------------------------------------------------------------------------------------

    def _award(self, command: AwardPoints) -> list[Expected]:
        card, since = self.cards[command.card_id], command.pending_until_ms
        expires = command.expires_at_ms or NEVER
        if not 1 <= command.amount <= AMOUNT_MAX:
            return refused("amount_invalid")
        if command.account == "wallet":
            if card["state"] != "active":
                return refused("card_not_active")
            before, expected = self.seen(command.card_id), self.lapse(command.card_id)
            more = {"account": "wallet", "drawn_on": "wallet:topped_up"}
            expected.append(self._post(command, "top_up", command.amount, "request", **more))
            return self.with_rules(command, "top_up", before, expected)
        if expires <= self.at_ms:
            return refused("expiry_invalid")
        if since and since != NEVER and (since <= self.at_ms or since >= expires):
            return refused("pending_invalid")
        if card["state"] != "active":
            return refused("card_not_active")
        before, expected = self.seen(command.card_id), self.lapse(command.card_id)
        lot = len(self.ledgers[command.card_id]) + 1
        lots = [(lot, command.amount, expires, since)] if expires < NEVER or since else []
        # Pending points that have become spendable, and never expire, are like any others without expiry.
        for old, (end, left, start) in card["lots"].items():
            if left and end == NEVER and start <= self.at_ms:
                lots.append((old, 0, end, start))
        more = {"earned": command.amount, "lots": lots, "drawn_on": "points:issued"}
        expected.append(self._post(command, "award", command.amount, "request", **more))
        return self.with_rules(command, "points_earned", before, expected)

    def awarded(self, card_id: str, points: int, cause: str) -> list[Expected]:
        """Points that something else than a request for points gives, without expiry, and what they do to the tier."""
        award = self._post(card_id, "award", points, cause, earned=points, drawn_on="points:issued")
        return [award, *self.rise(card_id, cause, "")]

    def _redeem(self, command: RedeemPoints) -> list[Expected]:
        card, account = self.cards[command.card_id], command.account
        if not 1 <= command.amount <= AMOUNT_MAX:
            return refused("amount_invalid")
        if card["state"] != "active":
            return refused("card_not_active")
        overdraft = self.tenants[command.tenant_id]["overdraft_max"] if account == "points" else 0
        short = self._short(card, account, command.amount, overdraft)
        if short:
            return short
        before, expected = self.seen(command.card_id), self.lapse(command.card_id)
        spent = self._spend(card, command.amount) if account == "points" else {"takings": {0: command.amount}}
        kind = "redeem" if account == "points" else "pay"
        more = {**spent, "account": account, "drawn_on": SPENT[account]}
        expected.append(self._post(command, kind, -command.amount, "request", **more))
        return self.with_rules(command, "points_spent", before, expected)

    def _reverse(self, command: ReversePoints) -> list[Expected]:
        card, ledger = self.cards[command.card_id], self.ledgers[command.card_id]
        if not 1 <= command.entry_seq <= len(ledger):
            return refused("entry_unknown")
        original = ledger[command.entry_seq - 1]
        if original["kind"] not in ("award", "redeem", "top_up", "pay", "capture"):
            return refused("entry_not_reversible")
        if original["cause"].startswith("coupon:"):
            return refused("entry_not_reversible")
        if any(entry["reverses"] == command.entry_seq for entry in ledger):
            return refused("already_reversed")
        expected = self.lapse(command.card_id)
        if original["kind"] in ("award", "top_up"):
            expected.append(self.taken_from(command.card_id, command.entry_seq))
            return [*expected, *self.lapse(command.card_id), *self.rules_undone(command.card_id, original)]
        more = _undoing(original)
        more["lots"] = []
        for lot, part in original["takings"].items():
            if lot:
                expires = original["lots"][lot][0]
                if expires <= self.at_ms:
                    expires = self.at_ms + self.tenants[command.tenant_id]["grace"]
                more["lots"].append(self._back(card, lot, part, expires))
        more["takings"] = {lot: -part for lot, part in original["takings"].items()}
        cause = f"reversal:{command.entry_seq}"
        expected.append(self._post(command, "reverse", -original["amount"], cause, **more))
        return [*expected, *self.lapse(command.card_id), *self.rules_undone(command.card_id, original)]

    def seen(self, card_id: str) -> dict[str, int]:
        """What rules see of a card: as it was before what happens."""
        return {"points": self.available(self.cards[card_id], "points")}

    def taken_from(self, card_id: str, entry_seq: int) -> Expected:
        """The reversal of an award or a top-up."""
        card, original = self.cards[card_id], self.ledgers[card_id][entry_seq - 1]
        account, more = original["account"], _undoing(original)
        overdraft = self.tenants[card["tenant"]]["overdraft_max"] if account == "points" else 0
        held = sum(hold["amount"] for hold in card["holds"].values() if hold["account"] == account)
        taken = max(0, min(original["amount"], card[account] - held + overdraft))
        if account == "points":
            own = entry_seq if entry_seq in original["lots"] else 0
            more.update(self._spend(card, taken, own, takes_pending=True))
            more.update(earned=-original["amount"], event_id=original["event_id"], earned_day=original["day"])
        else:
            more["takings"] = {0: taken}
        more["short_by"] = original["amount"] - taken
        return self._post(card_id, "reverse", -taken, f"reversal:{entry_seq}", **more)

    @staticmethod
    def _back(card: dict[str, Any], lot: int, part: int, expires: int) -> tuple[int, int, int, int]:
        """A lot to which something came back: with what is in it already, if anything is, the later expiry holds."""
        now, left, _ = card["lots"].get(lot, (0, 0, 0))
        return (lot, left + part, max(expires, now) if left else expires, 0)

    def _confirm(self, command: ConfirmPoints) -> list[Expected]:
        card, ledger = self.cards[command.card_id], self.ledgers[command.card_id]
        if not 1 <= command.entry_seq <= len(ledger):
            return refused("entry_unknown")
        expires, left, since = card["lots"].get(command.entry_seq, (0, 0, 0))
        if not left or since <= self.at_ms or expires <= self.at_ms:
            return refused("entry_not_pending")
        expected = self.lapse(command.card_id)
        lots = [(command.entry_seq, left if expires < NEVER else 0, expires, 0)]
        return [*expected, self._post(command, "confirm", 0, f"confirm:{command.entry_seq}", lots=lots)]

    def _hold(self, command: HoldPoints) -> list[Expected]:
        card, account = self.cards[command.card_id], command.account
        until = command.lapses_at_ms or self.at_ms + HOLD_MS
        if not 1 <= command.amount <= AMOUNT_MAX:
            return refused("amount_invalid")
        if until <= self.at_ms:
            return refused("expiry_invalid")
        if card["state"] != "active":
            return refused("card_not_active")
        if sum(hold["until"] > self.at_ms for hold in card["holds"].values()) >= HOLDS_MAX:
            return refused("limit_reached")
        short = self._short(card, account, command.amount)
        if short:
            return short
        expected = self.lapse(command.card_id)
        spent: dict[str, Any] = {"lots": [], "takings": {0: command.amount}}
        if account == "points":
            spent = self._spend(card, command.amount)
        expiry = {lot: expires for lot, _, expires, _ in spent["lots"]}
        parts = [(lot, part, expiry.get(lot, NEVER)) for lot, part in spent["takings"].items() if part]
        more = {**spent, "account": account, "held": command.amount, "due_ms": until}
        expected.append(self._post(command, "hold", 0, "request", **more))
        made = {"account": account, "amount": command.amount, "until": until, "parts": parts}
        card["holds"][len(self.ledgers[command.card_id])] = made
        return expected

    def _end(self, command: CapturePoints | ReleasePoints) -> list[Expected]:
        card, ledger = self.cards[command.card_id], self.ledgers[command.card_id]
        hold = card["holds"].get(command.entry_seq)
        if hold is None:
            ends = [entry["kind"] for entry in ledger if entry["reverses"] == command.entry_seq]
            return refused(ENDED.get(ends[0], "hold_unknown") if ends else "hold_unknown")
        if hold["until"] <= self.at_ms:
            return refused("hold_lapsed")
        kind, captured = "release", 0
        if isinstance(command, CapturePoints):
            kind, captured = "capture", hold["amount"] if command.amount is None else command.amount
            if not 1 <= captured <= hold["amount"]:
                return refused("amount_invalid")
        before, expected = self.seen(command.card_id), self.lapse(command.card_id)
        expected.append(self._end_hold(command.card_id, command.entry_seq, kind, captured))
        root = len(expected) - 1
        expected += self.lapse(command.card_id)
        return self.with_rules(command, "points_spent", before, expected, root) if captured else expected

    def _end_hold(self, card_id: str, key: int, kind: str, captured: int) -> Expected:
        """What is captured goes, in the order in which it was put aside; the rest is where it came from."""
        card = self.cards[card_id]
        hold = card["holds"].pop(key)
        wanted, lots, takings = captured, [], {}
        for lot, amount, expires in hold["parts"]:
            part = min(wanted, amount)
            wanted -= part
            takings[lot] = part if captured else -amount
            if lot:
                lots.append(self._back(card, lot, amount - part, expires))
        more = {"lots": lots, "takings": takings, "reverses": key, "account": hold["account"]}
        more.update(held=-hold["amount"], due_ms=hold["until"], drawn_on=SPENT[hold["account"]])
        return self._post(card_id, kind, -captured, f"hold:{key}", **more)

    def _transfer(self, command: TransferPoints) -> list[Expected]:
        card, other, account = self.cards[command.card_id], self.cards[command.to_card_id], command.account
        if not 1 <= command.amount <= AMOUNT_MAX:
            return refused("amount_invalid")
        if command.card_id == command.to_card_id:
            return refused("transfer_to_itself")
        if card["state"] != "active" or other["state"] != "active":
            return refused("card_not_active")
        short = self._short(card, account, command.amount)
        if short:
            return short
        alarms = self.alarm(command.card_id), self.alarm(command.to_card_id)
        expected = self.lapse(command.card_id)
        spent: dict[str, Any] = {"lots": [], "takings": {0: command.amount}}
        if account == "points":
            spent = self._spend(card, command.amount)
        expiry = {lot: expires for lot, _, expires, _ in spent["lots"]}
        arrives: dict[int, int] = defaultdict(int)
        for lot, part in spent["takings"].items():
            if part:
                arrives[expiry.get(lot, NEVER)] += part
        through = {"account": account, "drawn_on": f"{account}:transferred"}
        cause = f"transfer-to:{command.to_card_id}"
        expected.append(self._post(command, "transfer", -command.amount, cause, **spent, **through))
        expected += self.alarm_of(command.card_id, alarms[0])
        expected += self.lapse(command.to_card_id)
        for expires, amount in arrives.items():
            lot = len(self.ledgers[command.to_card_id]) + 1
            lots = [(lot, amount, expires, 0)] if expires < NEVER else []
            cause = f"transfer-from:{command.card_id}"
            expected.append(self._post(command.to_card_id, "transfer", amount, cause, lots=lots, **through))
        return [*expected, *self.alarm_of(command.to_card_id, alarms[1])]

    def alarm_of(self, card_id: str, before: int) -> list[Expected]:
        """The card's alarm, if it is not what it was before."""
        now = self.alarm(card_id)
        return [("AlarmSet", {"entity_id": card_id, "wake_ms": now, "rang": False})] if now != before else []


def _undoing(original: dict[str, Any]) -> dict[str, Any]:
    told = {name: original[name] for name in ("account", "drawn_on")}
    return {**told, "reverses": original["entry_seq"]}


def _as_date(day: int) -> date:
    return date(day // 10_000, day // 100 % 100, day % 100)


def _as_number(day: date) -> int:
    return int(day.strftime("%Y%m%d"))
