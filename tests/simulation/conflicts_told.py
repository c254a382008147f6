"""The second opinion on conflicts told live: whoever took in every change of an event's line has the event's list, for
all cards that had not been there when the line began. Worked out anew from all facts, as semantics.md has it."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any

from actors.ids import seq_of
from actors.live_sources import Feed
from actors.partition import Partition
from actors.replies import Digest, EventFeed
from tests.simulation.world import Violation, World

Identity = tuple[str, str, str, str]


def listed(facts: Iterable[Any], event_id: str) -> set[Identity]:
    """An event's conflicts after these facts: card, scan, other scan, reason."""
    reentry, scans, undone = "", [], set()
    for fact in facts:
        if getattr(fact, "event_id", "") != event_id:
            continue
        kind = type(fact).__name__
        if kind in ("EventCreated", "EventChanged"):
            reentry = fact.terms.reentry
        elif kind == "ScanAnnulled":
            undone.add(fact.scan_id)
        elif kind == "ScanJudged" and not fact.reason and fact.card_id:
            told = fact.details
            is_late = told is not None and told.is_offline
            at_ms = fact.scanned_at_ms if is_late else fact.at_ms
            whose = (fact.card_id, told.session_id if told is not None else "")
            scans.append((whose, at_ms, fact.direction == "entry", fact.request_id, is_late, told))
    uploaded = {scan[0][0] for scan in scans if scan[4]}
    found: set[Identity] = set()
    standing = sorted((scan for scan in scans if scan[3] not in undone and scan[0][0] in uploaded), key=lambda s: s[:4])
    for (card_id, _), line in groupby(standing, key=lambda scan: scan[0]):
        before, is_in = None, False
        for scan in line:
            _, _, is_entry, name, is_late, told = scan
            if not is_entry:
                is_in = False
                continue
            zone, reason = (told.zone_id, told.conflict) if told is not None else ("", "")
            came = before is not None and (is_in if reentry == "after_exit" else reentry == "none")
            went = is_in and before is not None and zone not in ("", before[5].zone_id if before[5] is not None else "")
            if before is not None and came and not went and (is_late or before[4]):
                found.add((card_id, name, before[3], "already_admitted"))
            elif reason not in ("", "already_admitted", "not_inside"):
                found.add((card_id, name, "", reason))
            before, is_in = scan, True
    return found


def unknown_cards(facts: Iterable[Any]) -> set[str]:
    """Cards that came before anybody knew them: nobody can tell when the first time was."""
    return {fact.card_id for fact in facts if type(fact).__name__ == "ScanJudged" and not fact.member_id}


class ConflictsTold:
    """What was told of conflicts, by the line that told it."""

    def __init__(self) -> None:
        self._told: dict[Feed, set[Identity]] = {}

    def take(self, digest: Digest, partition: Partition, facts: dict[int, Any], world: World) -> None:
        """An update leaves. Raises `Violation` if it is not what is told next, or leaves something out."""
        data = digest.update.data
        topic = partition._views._topics.get((digest.tenant_id, digest.topic))
        if not isinstance(data, EventFeed) or topic is None or not isinstance(topic.source, Feed):
            return
        feed = topic.source
        told = self._told.setdefault(feed, set())
        for change in data.conflict_changes:
            identity = (change.card_id, change.scan_id, change.other_scan_id, change.reason)
            if change.is_resolved != (identity in told):
                raise Violation(f"5: {digest.topic} tells {change}, and told {sorted(told)} before")
            world.note(f"conflict {'taken back' if change.is_resolved else 'told'} live")
            told ^= {identity}
        heard = feed.heard
        if heard is None or topic.is_dirty:
            return
        durable = [fact for at, fact in facts.items() if seq_of(at) <= partition._views.durable_seq]
        others = {key.partition("/")[0] for key in heard.strangers} | unknown_cards(durable)
        known = {one for one in told if one[0] not in others}
        wanted = {one for one in listed(durable, data.event_id) if one[0] not in others}
        if known != wanted:
            raise Violation(f"5: {digest.topic} told conflicts {sorted(known)}, there are {sorted(wanted)}")
