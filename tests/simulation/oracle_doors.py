"""The second opinion on what happens at an event's doors, worked out anew from semantics.md and the rules that
`actors.offline` states: who is inside is counted from visits, never from counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from actors.commands import CheckIn
from actors.door_commands import AnnulScan, AnswerQuestions, ChangeAdmissionList, NoteCard, SendOut
from tests.simulation.oracle_points import Expected, refused
from tests.simulation.oracle_rules import Failed
from tests.simulation.oracle_visits import VisitOracle

UNFORCIBLE = (
    "credential_invalid",
    "credential_replayed",
    "card_revoked",
    "event_cancelled",
    "gate_unknown",
    "full",
    "not_inside",
)
# What the conditions of `tests.simulation.door_clients` mean.
CONDITIONS: dict[str, Callable[[Any], bool]] = {
    "card.points < 20": lambda m: m["points"] < 20,
    "counts.visits_event <= 2 || card.tier == 'gold'": lambda m: m["visits_event"] < 3 or m["tier"] == "gold",
    "member.attributes.vip == 1 && scan.gate_id != 'gate_2'": lambda m: _is_vip(m) and m["gate_id"] != "gate_2",
}
# So short that some come too late.
ANNUL_MS = 700


class DoorOracle(VisitOracle):
    """The part of the oracle that knows visits. `Oracle` has the rest."""

    tenants: dict[str, dict[str, Any]]
    cards: dict[str, dict[str, Any]]
    events: dict[str, dict[str, Any]]
    at_ms: int
    known: Callable[[str], dict[str, Any]]
    available: Callable[[dict[str, Any], str], int]

    def __init__(self) -> None:
        super().__init__()
        # (event, card, session) -> who is inside, how often, since when, where
        self.visits: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.scans: dict[tuple[str, str], dict[str, Any]] = {}

    # The other part.
    def rewarded(
        self, command: CheckIn, card: dict[str, Any], entries: int, when: int, streak: int, first: bool = True
    ) -> tuple[int, list[Expected]]:
        raise NotImplementedError

    def left(self, command: CheckIn, entries: int, when: int) -> tuple[int, list[Expected]]:
        raise NotImplementedError

    def came_by(self, command: CheckIn, when: int) -> dict[str, Any]:
        raise NotImplementedError

    def units_of(self, command: CheckIn) -> list[Any]:
        raise NotImplementedError

    def taken_back(self, scan: dict[str, Any]) -> list[Expected]:
        raise NotImplementedError

    def shown(self, command: CheckIn, card: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        raise NotImplementedError

    def inside(self, event_id: str, zone_id: str | None = None) -> int:
        """The people inside an event, or in one of its zones."""
        return sum(
            visit["inside"] and zone_id in (None, visit["zone"])
            for (where, _, _), visit in self.visits.items()
            if where == event_id
        )

    def check_in(self, command: CheckIn) -> list[Expected]:
        """A scan."""
        event = self.events[command.event_id]
        found = self.cards.get(command.card_id)
        card = found if found and found["tenant"] == command.tenant_id else None
        now = self.at_ms
        when = min(command.scanned_at_ms or now, now) if command.is_offline else now
        session, begun = self._session(command.event_id, event, when)
        key = (command.event_id, command.card_id, session)
        visit = dict(self.visits.get(key) or _unseen())
        zone = next((g.zone_id for g in event["terms"]["gates"] if g.gate_id == command.gate_id), "")
        zone = zone if event["terms"]["zones"] else ""
        not_good, tapped = self.shown(command, card) if card else ("credential_invalid", {})
        reason = self._reason(command, event, card, visit, when, zone, not_good)
        told: dict[str, Any] = {"session_id": session, **tapped}
        if reason == "not_eligible":
            told["condition_failure"] = self._condition(command, event, card, visit, zone)[1]
        if card and card["attention"]:
            told["attention"] = card["attention"]
        if command.is_offline:
            return [*begun, *self._offline(command, event, card, key, visit, when, zone, reason, told)]
        entering = command.direction == "entry"
        if reason and command.forced_by and entering and reason not in UNFORCIBLE:
            if self._room(command.event_id, event, visit, zone):
                told.update(forced=reason, forced_by=command.forced_by)
                reason = ""
            else:
                reason = "full"
        if reason == "not_eligible" and event["terms"]["admission"].message:
            told["message"] = event["terms"]["admission"].message
        repeated = visit["last"] if reason == "already_admitted" else (0, "", "")
        if reason:
            event["refused"] += 1
            return [*begun, self._scan(command, event, card, visit, reason, 0, repeated, told, when)]
        return [*begun, *self._let(command, event, card, key, visit, zone, told)]

    def _let(
        self, command: CheckIn, event: Any, card: Any, key: Any, visit: Any, zone: str, told: dict[str, Any]
    ) -> list[Expected]:
        entering, now, was = command.direction == "entry", self.at_ms, visit["zone"] if visit["inside"] else ""
        before = visit["inside"]
        moving = entering and bool(zone) and visit["inside"] and was != zone
        awarded, posted = 0, []
        if entering and not moving:
            visit.update(entries=visit["entries"] + 1, last=(now, command.gate_id, command.device_id))
            event["admitted"] += 1
        visit.update(inside=entering, zone=zone if entering else "", seen=now)
        self.visits[key] = visit
        self._zones(command.event_id, event, was, visit["zone"], told)
        if moving:
            told.update(is_move=True, is_latest_entry=False)
        elif entering and before:
            told["was_inside"] = True
        if entering:
            asked = [q.question_id for q in event["terms"]["questions"]]
            open_ones = tuple(q for q in asked if q not in event["answered"].get(command.card_id, ()))
            if open_ones:
                told["questions"] = open_ones
            if not moving:
                came = self.came_by(command, now)
                if card["state"] == "active":
                    awarded, posted = self.rewarded(command, card, visit["entries"], now, came["streak_from"])
        else:
            awarded, posted = self.left(command, visit["entries"], now)
        scan = self._scan(command, event, card, visit, "", awarded, (0, "", ""), told, now)
        self._remember(command, key, posted, now, moving, was, visit["zone"], before)
        if entering and not moving:
            scan[1].update(came["told"])
            self.scans[command.tenant_id, command.request_id]["day"] = scan[1]["visit_day"]
        return [scan, *posted]

    def _offline(
        self,
        command: CheckIn,
        event: Any,
        card: Any,
        key: Any,
        visit: Any,
        when: int,
        zone: str,
        reason: str,
        told: Any,
    ) -> list[Expected]:
        told["is_offline"] = True
        if command.offline_reason:
            event["refused"] += 1
            # Nobody asks the rule about somebody whom the scanner sent away.
            told.pop("attention", None)
            told.pop("condition_failure", None)
            return [self._scan(command, event, card, visit, command.offline_reason, 0, (0, "", ""), told, when)]
        if reason:
            told["conflict"] = reason
        if card is None:
            return [self._scan(command, event, card, visit, "", 0, (0, "", ""), told, when)]
        repeated = visit["last"] if reason == "already_admitted" else (0, "", "")
        before = visit["inside"]
        entering, was = command.direction == "entry", visit["zone"] if visit["inside"] else ""
        of_now = when >= event["left"] and key[2] in ("", event["session"])
        latest = of_now and (when > visit["seen"] if entering else when >= visit["seen"])
        moving = latest and entering and bool(zone) and visit["inside"] and was != zone
        latest_entry = entering and when >= visit["last"][0]
        first_time = not visit["entries"]
        if latest:
            visit.update(inside=entering, zone=zone if entering else "", seen=when)
        if entering:
            visit["entries"] += 1
            event["admitted"] += 1
        if latest_entry:
            visit["last"] = (when, command.gate_id, command.device_id)
        self.visits[key] = visit
        if latest:
            self._zones(command.event_id, event, was, visit["zone"], told)
        told.update({name: False for name, so in (("is_latest", latest), ("is_latest_entry", latest_entry)) if not so})
        if moving:
            told["is_move"] = True
        elif entering and before:
            told["was_inside"] = True
        awarded, posted = 0, []
        if entering:
            came = self.came_by(command, when)
            if card["state"] == "active":
                awarded, posted = self.rewarded(command, card, visit["entries"], when, came["streak_from"], first_time)
        else:
            awarded, posted = self.left(command, visit["entries"], when)
        self._remember(command, key, posted, when, moving, was, visit["zone"] if latest else "", before)
        scan = self._scan(command, event, card, visit, "", awarded, repeated, told, when)
        if entering:
            scan[1].update(came["told"])
        return [scan, *posted]

    def _remember(
        self,
        command: CheckIn,
        key: Any,
        posted: list[Expected],
        when: int,
        moving: bool,
        was: str,
        now_in: str,
        before: bool,
    ) -> None:
        if command.direction == "entry" and not command.is_offline:
            awards = [fields["entry_seq"] for _, fields in posted if fields.get("kind") == "award"]
            self.scans[command.tenant_id, command.request_id] = {
                "key": key,
                "cause": f"checkin:{command.request_id}",
                "device": command.device_id,
                "at": self.at_ms,
                "when": when,
                "awards": awards,
                "moving": moving,
                "was": was,
                "zone": now_in,
                "before": before,
            }

    def _zones(self, event_id: str, event: Any, was: str, now_in: str, told: dict[str, Any]) -> None:
        if not event["terms"]["zones"]:
            return
        if now_in:
            told.update(zone_id=now_in, zone_inside=self.inside(event_id, now_in))
        if was and was != now_in:
            told.update(left_zone_id=was, left_zone_inside=self.inside(event_id, was))

    def _session(self, event_id: str, event: dict[str, Any], when: int) -> tuple[str, list[Expected]]:
        sessions = event["terms"]["sessions"]
        now_open = [s for s in sessions if s.doors_open_ms <= when < s.doors_close_ms]
        if not now_open:
            return "", []
        order = [s.session_id for s in sessions]
        session = now_open[0].session_id
        if event["session"] in order and order.index(session) <= order.index(event["session"]):
            return session, []
        count = self.inside(event_id)
        self._all_leave(event_id)
        event.update(session=session, left=now_open[0].doors_open_ms)
        return session, [("EveryoneLeft", {"count": count, "left_ms": event["left"], "session_id": session})]

    def _all_leave(self, event_id: str) -> None:
        for (where, _, _), visit in self.visits.items():
            if where == event_id:
                visit.update(inside=False, zone="")

    def _scan(
        self,
        command: CheckIn,
        event: Any,
        card: Any,
        visit: Any,
        reason: str,
        awarded: int,
        first: Any,
        told: Any,
        when: int,
    ) -> Expected:
        fields = {
            "reason": reason,
            "inside": self.inside(command.event_id),
            "admitted": event["admitted"],
            "refused": event["refused"],
            "capacity": event["terms"]["capacity"],
            "card_inside": visit["inside"],
            "card_entries": visit["entries"],
            "points_awarded": awarded,
            "points_balance": card["points"] if card else 0,
            "first_at_ms": first[0],
            "first_gate_id": first[1],
            "first_device_id": first[2],
            "device_id": command.device_id,
            "gate_id": command.gate_id,
            "details": {name: value for name, value in told.items() if value is False or value not in ("", 0)},
            "visits": None,
            "visit_day": 0,
            "rules": self.units_of(command) if card and not reason else [],
        }
        if command.is_offline:
            fields["scanned_at_ms"] = when
        return ("ScanJudged", fields)

    def _room(self, event_id: str, event: dict[str, Any], visit: dict[str, Any], zone: str) -> bool:
        if not visit["inside"] and self.inside(event_id) + 1 > event["terms"]["capacity"]:
            return False
        bounds = {z.zone_id: z.capacity for z in event["terms"]["zones"]}
        if not zone or (visit["inside"] and visit["zone"] == zone) or not bounds.get(zone):
            return True
        return self.inside(event_id, zone) + 1 <= bounds[zone]

    def _reason(self, command: CheckIn, event: Any, card: Any, visit: Any, now: int, zone: str, not_good: str) -> str:
        terms = event["terms"]
        if not_good == "credential_invalid":
            return not_good
        if not _is_valid(now, command.valid_from_ms, command.valid_until_ms):
            return "credential_expired"
        if not_good:
            return not_good
        if card["state"] != "active":
            return {"suspended": "card_suspended", "revoked": "card_revoked"}[card["state"]]
        if not _is_valid(now, *card["valid"]):
            return "card_expired"
        gates = {gate.gate_id: gate.is_open for gate in terms["gates"]}
        entering, sessions, admission = command.direction == "entry", terms["sessions"], terms["admission"]
        between = bool(sessions) and not any(s.doors_open_ms <= now < s.doors_close_ms for s in sessions)
        moving = entering and bool(zone) and visit["inside"] and visit["zone"] != zone
        again = entering and not moving
        checks = (
            (terms["state"] == "cancelled", "event_cancelled"),
            (now < terms["doors_open_ms"], "event_not_open"),
            (terms["state"] == "closed" or 0 < terms["doors_close_ms"] <= now, "event_closed"),
            (between and any(s.doors_open_ms > now for s in sessions), "event_not_open"),
            (between, "event_closed"),
            (command.gate_id and command.gate_id not in gates, "gate_unknown"),
            (command.gate_id and not gates.get(command.gate_id, True), "gate_closed"),
            (entering and admission.tiers and card["tier"] not in admission.tiers, "not_eligible"),
            (entering and admission.list_only and command.card_id not in event["listed"], "not_eligible"),
            (not self._condition(command, event, card, visit, zone)[0], "not_eligible"),
            (again and terms["reentry"] == "none" and visit["entries"] > 0, "already_admitted"),
            (again and terms["reentry"] != "multiple" and visit["inside"], "already_admitted"),
            (not entering and terms["strict_exit"] and not visit["inside"], "not_inside"),
            (entering and not self._room(command.event_id, event, visit, zone), "full"),
        )
        return next((reason for is_broken, reason in checks if is_broken), "")

    def _condition(self, command: CheckIn, event: Any, card: Any, visit: Any, zone: str) -> tuple[bool, str]:
        """What the event's condition says of an entry, and why it could say nothing."""
        admission = event["terms"]["admission"]
        by_tier = not admission.tiers or card["tier"] in admission.tiers
        by_list = not admission.list_only or command.card_id in event["listed"]
        if command.direction == "exit" or not admission.condition or not by_tier or not by_list:
            return True, ""
        moving = bool(zone) and visit["inside"] and visit["zone"] != zone
        seen = {"tier": card["tier"], "points": self.available(card, "points"), "gate_id": command.gate_id}
        seen.update(visits_event=visit["entries"] + (not moving), **self.known(command.card_id))
        try:
            return CONDITIONS[admission.condition](seen), ""
        except Failed as failed:
            return False, str(failed)

    # --- the rest ---------------------------------------------------------------------------------------------------

    def at_doors(
        self, command: AnnulScan | SendOut | ChangeAdmissionList | AnswerQuestions | NoteCard
    ) -> list[Expected]:
        """What is not a scan."""
        if isinstance(command, NoteCard):
            self.cards[command.card_id]["attention"] = command.attention
            return [("CardNoted", {"attention": command.attention})]
        event = self.events[command.event_id]
        if isinstance(command, AnnulScan):
            return self._annul(command, event)
        if isinstance(command, SendOut):
            return self.leave(command.event_id)
        if isinstance(command, ChangeAdmissionList):
            before = set(event["listed"])
            event["listed"] = (before | set(command.add)) - set(command.remove)
            added, removed = sorted(event["listed"] - before), sorted(before - event["listed"])
            size = len(event["listed"])
            return [("AdmissionListChanged", {"added": tuple(added), "removed": tuple(removed), "size": size})]
        choices = {q.question_id: q.choices for q in event["terms"]["questions"]}
        for question, answer in command.answers:
            if question not in choices:
                return refused("question_unknown")
            if choices[question] and answer not in choices[question]:
                return refused("answer_invalid")
        known = event["answered"].setdefault(command.card_id, set())
        known |= {question for question, _ in command.answers}
        return [("QuestionsAnswered", {"answered": tuple(sorted(known))})]

    def leave(self, event_id: str) -> list[Expected]:
        """Everybody is out."""
        count = self.inside(event_id)
        self._all_leave(event_id)
        self.events[event_id]["left"] = self.at_ms
        return [("EveryoneLeft", {"count": count, "left_ms": self.at_ms, "session_id": ""})]

    def _annul(self, command: AnnulScan, event: dict[str, Any]) -> list[Expected]:
        answered = self.judged.get((command.tenant_id, command.scan_id))
        if answered is None or answered[0] != command.event_id:
            return refused("scan_unknown")
        scan = self.scans.get((command.tenant_id, command.scan_id))
        if scan is None or not answered[1]:
            return refused("scan_not_admitted")
        if command.device_id and command.device_id != scan["device"]:
            return refused("scan_of_other_device")
        if self.at_ms > scan["at"] + ANNUL_MS:
            return refused("annul_too_late")
        event_id, card_id, session = scan["key"]
        visit = self.visits[scan["key"]]
        if not visit["inside"] or visit["seen"] != scan["when"] or visit["zone"] != scan["zone"]:
            return refused("scan_superseded")
        # Back to where the person was before the scan.
        was, left = scan["was"], scan["zone"]
        visit.update(seen=self.at_ms, inside=scan["before"], zone=was)
        if not scan["moving"]:
            visit["entries"] -= 1
            event["admitted"] -= 1
        if not scan["before"]:
            visit["last"] = (0, "", "")
        gone = left if left != was else ""
        fields = {
            "card_id": card_id,
            "session_id": session,
            "inside": self.inside(event_id),
            "admitted": event["admitted"],
            "card_entries": visit["entries"],
            "card_inside": visit["inside"],
            "zone_id": gone,
            "zone_inside": self.inside(event_id, gone) if gone else 0,
            "back_zone_id": was,
            "back_zone_inside": self.inside(event_id, was) if was else 0,
            **self.visit_taken_back(card_id, event_id, scan.get("day", 0)),
        }
        return [("ScanAnnulled", fields), *self.taken_back(scan)]

    judged: dict[tuple[str, str], tuple[str, bool]]


def _unseen() -> dict[str, Any]:
    return {"inside": False, "entries": 0, "last": (0, "", ""), "zone": "", "seen": 0}


def _is_valid(now_ms: int, from_ms: int, until_ms: int) -> bool:
    return from_ms <= now_ms and (until_ms == 0 or now_ms < until_ms)


def _is_vip(seen: Any) -> bool:
    if "vip" in seen["attributes"]:
        return bool(seen["attributes"]["vip"] == 1)
    # An "and" with a side that is false is false, whatever the other is.
    if seen["gate_id"] == "gate_2":
        return False
    raise Failed("key_missing")
