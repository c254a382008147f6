"""The scans that a scanner has judged: its queue to the system, and what it remembers of each card. On disk.

Rules:
1. `note` returns once the scan is fsynced; only then may the door open. A scan id is noted once: whoever comes with it
   again is told what was decided.
2. A scan waits until the system has answered it. It is handed out in the order in which the scans were noted, as often
   as it takes; that it was answered is noted after the answer, so after a crash it may be sent once more, under its id,
   which the system judges once.
3. A queue that is full takes nothing: better a door that stays closed than a scan that nobody will hear of.
4. What was answered is remembered for `REMEMBERED_MAX` scans, so that the next scan of the card can be judged, and
   without its credential.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from actors.terms import Direction
from loadtest.offline.disk import Disk
from loadtest.offline.judge import Seen

WAITING_MAX = 100_000
REMEMBERED_MAX = 100_000
_FORGET = """
DELETE FROM scans WHERE NOT is_waiting AND number <= (SELECT max(number) FROM scans) - ?
"""


class QueueFull(Exception):
    """As many scans as can be kept wait for the system."""


class Scan(msgspec.Struct, frozen=True):
    """One scan. `scanned_at_ms` is by the system's clock: it was corrected when the scan was made and never changes
    after, so that the scan is the same request however often it is sent. `reason` "": the person was let in or out.
    `is_alone`: this scanner has judged it; `was_asked`: the system may have, too, under the same id, but its answer did
    not come."""

    scan_id: str
    event_id: str
    credential: str
    card_id: str
    gate_id: str
    direction: Direction
    scanned_at_ms: int
    reason: str
    session_id: str = ""
    zone_id: str = ""
    is_alone: bool = True
    was_asked: bool = False


class Scans:
    """The scans of one scanner. `waiting_count`: how many the system has not answered."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.waiting_count: int = disk.rows.execute("SELECT count(*) FROM scans WHERE is_waiting").fetchone()[0]

    def find(self, scan_id: str) -> Scan | None:
        """The scan that was noted under this id."""
        row = self._disk.rows.execute("SELECT scan FROM scans WHERE scan_id = ?", (scan_id,)).fetchone()
        return None if row is None else _scan(row[0])

    def note(self, scan: Scan) -> None:
        """Puts a scan that was judged here into the queue. Raises `QueueFull`."""
        if self.waiting_count >= WAITING_MAX:
            raise QueueFull(f"{WAITING_MAX} scans wait for the system")
        self._insert(scan, is_waiting=True)
        self.waiting_count += 1

    def remember(self, scan: Scan) -> None:
        """Keeps a scan that the system has judged, for what it tells of the card."""
        self._insert(msgspec.structs.replace(scan, credential=""), is_waiting=False)

    def seen(self, event_id: str, card_id: str, session_id: str) -> Seen:
        """What this scanner knows of a card."""
        rows = self._disk.rows.execute(
            "SELECT scan FROM scans WHERE event_id = ? AND card_id = ? AND session_id = ? ORDER BY number",
            (event_id, card_id, session_id),
        )
        let_through = [scan for (encoded,) in rows if not (scan := _scan(encoded)).reason]
        if not let_through:
            return Seen()
        last = max(reversed(let_through), key=lambda scan: scan.scanned_at_ms)
        entries = sum(scan.direction == "entry" for scan in let_through)
        return Seen(entries, last.direction == "entry", last.zone_id, last.scanned_at_ms)

    def waiting(self, count: int) -> list[Scan]:
        """The oldest that wait, in their order."""
        rows = self._disk.rows.execute("SELECT scan FROM scans WHERE is_waiting ORDER BY number LIMIT ?", (count,))
        return [_scan(encoded) for (encoded,) in rows]

    def answered(self, outcomes: Sequence[tuple[Scan, dict[str, Any]]]) -> None:
        """These wait no more; what the system said of each is kept."""
        with self._disk.changing() as rows:
            rows.executemany(
                "UPDATE scans SET is_waiting = 0, scan = ?, outcome = ? WHERE scan_id = ?",
                (
                    (_encoded(msgspec.structs.replace(scan, credential="")), msgspec.json.encode(outcome), scan.scan_id)
                    for scan, outcome in outcomes
                ),
            )
        self.waiting_count -= len(outcomes)

    def outcome(self, scan_id: str) -> dict[str, Any] | None:
        """What the system said of a scan: a verdict, or `{"scan_id", "problem"}`."""
        row = self._disk.rows.execute("SELECT outcome FROM scans WHERE scan_id = ?", (scan_id,)).fetchone()
        return None if row is None or row[0] is None else msgspec.json.decode(row[0])

    def _insert(self, scan: Scan, *, is_waiting: bool) -> None:
        with self._disk.changing() as rows:
            rows.execute(
                "INSERT INTO scans (scan_id, event_id, session_id, card_id, is_waiting, scan)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (scan.scan_id, scan.event_id, scan.session_id, scan.card_id, is_waiting, _encoded(scan)),
            )
            rows.execute(_FORGET, (REMEMBERED_MAX,))


def _encoded(scan: Scan) -> bytes:
    return msgspec.msgpack.encode(scan)


def _scan(encoded: bytes) -> Scan:
    return msgspec.msgpack.decode(encoded, type=Scan)
