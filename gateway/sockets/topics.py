"""Live topics as clients see them: their names, and their data as the maps of contract.md."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from actors.ids import seq_of
from actors.replies import BoardView, CardFeed, ConflictChange, EventFeed, FirstSeen, ScanSummary, TopicData
from gateway.identity.callers import Caller
from gateway.live_hub import Published
from gateway.sockets.wire import Wire

_ID: Final = r"[A-Za-z0-9_.-]{1,64}"


class TopicKind(NamedTuple):
    """A kind of topic: its name in the docs, what it looks like (group "event": what only that event's devices see),
    and the action of `gateway.identity.policy` that it needs."""

    name: str
    pattern: re.Pattern[str]
    action: str


KINDS: Final = (
    TopicKind("event:ID", re.compile(rf"event:(?P<event>{_ID})\Z"), "events.read"),
    TopicKind(
        "leaderboard:BOARD[:WINDOW]",
        re.compile(
            rf"leaderboard:[a-z0-9_]{{1,40}}(?::(?:[a-z]{{1,10}}|day:\d{{8}}|(?:week|month):\d{{6}}|event:{_ID}))?\Z"
        ),
        "leaderboards.read",
    ),
    TopicKind("card:ID", re.compile(rf"card:{_ID}\Z"), "cards.read"),
)


def may_subscribe(caller: Caller, topic: str) -> bool:
    """Whether `topic` is a topic at all, and one for this caller: a device that is bound to an event sees that one
    only."""
    for kind in KINDS:
        found = kind.pattern.match(topic)
        if found is not None:
            event_id = found.groupdict().get("event")
            is_reached = event_id is None or caller.event_id in ("", event_id)
            return is_reached and caller.reach(kind.action) is not None
    return False


def snapshot_frame(published: Published, wire: Wire, recovered: bool | None) -> bytes:
    """The frame that begins a line; encoded once per format, and kind of beginning."""

    def encode(snapshot: Published) -> bytes:
        fields = {"t": "snapshot", "topic": snapshot.topic, "epoch": snapshot.epoch, "offset": snapshot.offset}
        if recovered is not None:
            fields["recovered"] = recovered
        fields["data"] = data_map(snapshot.data)
        return wire.encode(fields)

    return published.frame(("snapshot", wire.name, recovered), encode)


def update_frame(published: Published, wire: Wire) -> bytes:
    """The frame that continues one; encoded once per format."""

    def encode(update: Published) -> bytes:
        fields = {"t": "update", "topic": update.topic, "offset": update.offset, "data": data_map(update.data)}
        return wire.encode(fields)

    return published.frame(("update", wire.name), encode)


def data_map(data: TopicData) -> dict[str, Any]:
    """A topic's data."""
    if isinstance(data, CardFeed):
        return {
            "card_id": data.card_id,
            "member": {"id": data.member_id, "name": data.member_name},
            "tier": data.tier,
            "state": data.state,
            "balance": data.balance,
            "earned": data.earned,
            "entries": data.entry_count,
            "seq": seq_of(data.position),
        }
    if isinstance(data, BoardView):
        return {
            "board": data.board,
            "window": data.window,
            "size": data.size,
            "items": [
                {"rank": row.rank, "card_id": row.card_id, "member": {"name": row.member_name}, "score": row.score}
                for row in data.rows
            ],
        }
    assert isinstance(data, EventFeed), "revocations are no topic for subscribers; scanners are sent them"
    return {
        "event_id": data.event_id,
        "name": data.name,
        "inside": data.inside,
        "admitted": data.admitted,
        "refused": data.refused,
        "capacity": data.capacity,
        "seq": seq_of(data.position),
        "scans": [_scan_map(scan) for scan in data.scans],
        "conflicts_left_out": data.left_out,
        "conflict_changes": [_change_map(change) for change in data.conflict_changes],
        "look_up_conflicts": data.must_look_up,
    }


def _scan_map(scan: ScanSummary) -> dict[str, Any]:
    """A line of the feed, oldest first among its like. What is not known of an unknown card is null."""
    return {
        "scan_id": scan.scan_id,
        "at": scan.at_ms,
        "verdict": "admitted" if scan.admitted else "refused",
        "reason": scan.reason or None,
        "direction": scan.direction,
        "card_id": scan.card_id or None,
        "member": {"name": scan.member_name} if scan.member_name else None,
        "tier": scan.tier or None,
        "gate_id": scan.gate_id or None,
        "gate_name": scan.gate_name or None,
        "device_id": scan.device_id or None,
        "points": scan.points_awarded,
        "conflict": scan.conflict or None,
        "conflict_resolved": scan.is_resolved,
        "forced": scan.forced or None,
        "scanned_at": scan.scanned_at_ms or None,
        "first": _first_map(scan.first) if scan.first is not None else None,
    }


def _change_map(change: ConflictChange) -> dict[str, Any]:
    """A change of the event's list of conflicts."""
    return {
        "card_id": change.card_id,
        "scan_id": change.scan_id,
        "other_scan_id": change.other_scan_id or None,
        "reason": change.reason,
        "resolved": change.is_resolved,
    }


def _first_map(first: FirstSeen) -> dict[str, Any]:
    """The admission that a scan repeats."""
    return {
        "at": first.at_ms,
        "gate_id": first.gate_id or None,
        "gate_name": first.gate_name or None,
        "device_id": first.device_id or None,
    }
