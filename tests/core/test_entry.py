"""The checksum chain: as released, and broken by every change to an entry.

`tests/golden/journal_entries_v1.json` is what version 1 wrote. It is never edited: journals in the field hold such
entries, and they must be found intact by every later release.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.entry import CHECKSUM_BYTES, EMPTY_PAYLOAD, ENTRY_VERSION, GENESIS_CHECKSUM, Entry, is_intact, sealed

GOLDEN = Path(__file__).parent.parent / "golden" / "journal_entries_v1.json"


def golden_entries() -> list[Entry]:
    return [
        Entry(
            epoch=row["epoch"],
            seq=row["seq"],
            at_ms=row["at_ms"],
            checksum=bytes.fromhex(row["checksum"]),
            payload=bytes.fromhex(row["payload"]),
            version=row["version"],
        )
        for row in json.loads(GOLDEN.read_text())
    ]


def previous_checksums(entries: list[Entry]) -> list[bytes]:
    return [GENESIS_CHECKSUM, *[entry.checksum for entry in entries[:-1]]]


def test_released_entries_are_intact() -> None:
    entries = golden_entries()
    assert {entry.version for entry in entries} == {1}
    assert all(is_intact(previous, e) for previous, e in zip(previous_checksums(entries), entries, strict=True))


def test_the_same_content_is_sealed_the_same_way_today() -> None:
    assert ENTRY_VERSION == 1, "a new version needs a golden file of its own beside that of version 1"
    entries = golden_entries()
    for previous, entry in zip(previous_checksums(entries), entries, strict=True):
        assert sealed(previous, entry.epoch, entry.seq, entry.at_ms, entry.payload) == entry


def test_no_facts_are_an_empty_array() -> None:
    assert msgspec.msgpack.decode(EMPTY_PAYLOAD) == []
    assert golden_entries()[0].payload == EMPTY_PAYLOAD


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": 8},
        {"seq": 8},
        {"at_ms": 8},
        {"version": 2},
        {"payload": b""},
        {"payload": b"\x91\x02"},
        {"payload": b"\x91\x01\x00"},
        {"checksum": bytes(CHECKSUM_BYTES)},
    ],
)
def test_every_change_to_an_entry_breaks_it(change: dict[str, Any]) -> None:
    entry = sealed(GENESIS_CHECKSUM, 7, 7, 7, b"\x91\x01")
    assert is_intact(GENESIS_CHECKSUM, entry)
    assert not is_intact(GENESIS_CHECKSUM, msgspec.structs.replace(entry, **change))


def test_every_flipped_bit_of_a_payload_breaks_the_entry() -> None:
    entry = golden_entries()[2]
    previous = golden_entries()[1].checksum
    for bit in range(8 * len(entry.payload)):
        payload = bytearray(entry.payload)
        payload[bit // 8] ^= 1 << bit % 8
        assert not is_intact(previous, msgspec.structs.replace(entry, payload=bytes(payload)))


def test_lost_and_swapped_entries_break_the_chain() -> None:
    first, second, third, *_ = golden_entries()
    assert not is_intact(first.checksum, third)
    assert not is_intact(second.checksum, second)
    assert not is_intact(GENESIS_CHECKSUM, second)
