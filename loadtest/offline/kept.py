"""What a scanner knows, on disk: written through at every change, and read once at the start.

A change of the revocation list and the cursor that it leads to are one change, so after any crash the list goes on from
where it really is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from gateway.published_keys import PublishedKeys
from loadtest.offline.disk import Disk
from loadtest.offline.known import CardChanges, Device, Event, Known

# How much the measured offset must change to be worth a write.
CLOCK_STEP_MS = 20


class Kept:
    """`device` and `known` are None until the system has told them once."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.token: str = self._read("token", str, "")
        self.device: Device | None = self._read("device", Device, None)
        self.known: Known | None = None
        event = self._read("event", Event, None)
        keys = self._read("keys", dict[int, bytes], {})
        if self.device is not None and event is not None and keys:
            self.known = Known(
                event,
                PublishedKeys(self.device.org_id, keys),
                {card_id for (card_id,) in disk.rows.execute("SELECT card_id FROM barred")},
                dict(disk.rows.execute("SELECT card_id, serial FROM serials")),
                {card_id for (card_id,) in disk.rows.execute("SELECT card_id FROM listed")},
                self._read("cursor", str, ""),
                self._read("clock_ahead_ms", int, 0),
            )

    def pairing_key(self, code: str, new_key: str) -> str:
        """The Idempotency-Key to pair with this code under, now and after any crash: a code works once, but under the
        same key its answer can be had again."""
        found = self._read("pairing", tuple[str, str], ("", ""))
        if found[0] != code:
            found = (code, new_key)
            self._write(pairing=found)
        key: str = found[1]
        return key

    def keep_token(self, token: str) -> None:
        """The device's token."""
        self._write(token=token)
        self.token = token

    def keep_all(
        self,
        device: Device,
        event: Event,
        keys: Mapping[int, bytes],
        listed: Iterable[str],
        changes: CardChanges | None,
    ) -> None:
        """Everything anew, but for the cards: of those only what has changed, if that was asked for."""
        known = self.known
        if known is None:
            known = self.known = Known(event, PublishedKeys(device.org_id, keys), set(), {}, set(), "", 0)
        with self._disk.changing() as rows:
            self._put(device=device, event=event, keys=dict(keys))
            listed = set(listed)
            if listed != known.listed:
                rows.execute("DELETE FROM listed")
                rows.executemany("INSERT INTO listed VALUES (?)", ((card_id,) for card_id in listed))
            if changes is not None:
                self._put_changes(changes)
        self.device = device
        known.event, known.keys, known.listed = event, PublishedKeys(device.org_id, keys), listed
        if changes is not None:
            _take(known, changes)

    def keep_changes(self, changes: CardChanges) -> None:
        """News of the revocation list."""
        assert self.known is not None, "what comes before is fetched first"
        with self._disk.changing():
            self._put_changes(changes)
        _take(self.known, changes)

    def keep_clock(self, ahead_ms: int) -> None:
        """How far the system's clock was measured to be ahead."""
        assert self.known is not None, "it is measured after the rest is known"
        if abs(ahead_ms - self.known.clock_ahead_ms) >= CLOCK_STEP_MS:
            self._write(clock_ahead_ms=ahead_ms)
            self.known.clock_ahead_ms = ahead_ms

    def _put_changes(self, changes: CardChanges) -> None:
        rows = self._disk.rows
        if changes.reset:
            rows.execute("DELETE FROM barred")
            rows.execute("DELETE FROM serials")
        rows.executemany("INSERT OR IGNORE INTO barred VALUES (?)", ((card_id,) for card_id in changes.cards))
        rows.executemany("DELETE FROM barred WHERE card_id = ?", ((card_id,) for card_id in changes.restored))
        rows.executemany("INSERT OR REPLACE INTO serials VALUES (?, ?)", changes.serials.items())
        self._put(cursor=changes.cursor)

    def _put(self, **values: Any) -> None:
        encoded = ((name, msgspec.msgpack.encode(value)) for name, value in values.items())
        self._disk.rows.executemany("INSERT OR REPLACE INTO kept VALUES (?, ?)", encoded)

    def _write(self, **values: Any) -> None:
        with self._disk.changing():
            self._put(**values)

    def _read(self, name: str, kind: Any, absent: Any) -> Any:
        row = self._disk.rows.execute("SELECT value FROM kept WHERE name = ?", (name,)).fetchone()
        return absent if row is None else msgspec.msgpack.decode(row[0], type=kind)


def _take(known: Known, changes: CardChanges) -> None:
    """The same change in memory."""
    if changes.reset:
        known.barred.clear()
        known.serials.clear()
    known.barred.update(changes.cards)
    known.barred.difference_update(changes.restored)
    known.serials.update(changes.serials)
    known.cursor = changes.cursor
