"""Opening: one test a row of the decision table in `actors/recovery.py`, and what precedes what."""

from __future__ import annotations

import msgspec
import pytest

from actors.codec import encode_facts
from actors.entry import EMPTY_PAYLOAD, ENTRY_VERSION, Entry, Mark, chain, sealed
from actors.recovery import Recovered, Superseded, recover
from tests.core.build import NOW_MS, founding

PAYLOADS = [EMPTY_PAYLOAD, *(encode_facts([fact]) for fact in founding(2))]


def mark(entry: Entry) -> Mark:
    return Mark(entry.epoch, entry.seq, entry.checksum)


def journal(*epochs: int) -> list[Entry]:
    """A journal with an entry of each epoch; a new epoch's first entry has no facts."""
    entries: list[Entry] = []
    before = Mark()
    for number, epoch in enumerate(epochs):
        payload = EMPTY_PAYLOAD if epoch > before.epoch else PAYLOADS[number % 4 + 1]
        entries.append(sealed(before.checksum, epoch, before.seq + 1, NOW_MS, payload))
        before = mark(entries[-1])
    return entries


def test_otherwise_the_facts_are_taken_in() -> None:
    entries = journal(1, 1, 1, 2)
    found = recover(entries[-1], Mark(), Mark(), entries)
    assert isinstance(found, Recovered)
    assert [len(facts) for _, facts in found.entries] == [0, 1, 1, 0]
    after = recover(entries[-1], mark(entries[1]), mark(entries[2]), entries[2:])
    assert isinstance(after, Recovered)
    assert [entry.seq for entry, _ in after.entries] == [3, 4]


def test_nothing_after_a_position_at_the_opening_entry() -> None:
    entries = journal(1, 1, 2)
    assert recover(entries[-1], mark(entries[-1]), mark(entries[1]), []) == Recovered([])


def test_a_hole_is_torn() -> None:
    entries = journal(1, 1, 1, 2)
    assert "torn" in str(recover(entries[-1], Mark(), Mark(), [entries[0], *entries[2:]]))
    assert "torn" in str(recover(entries[-1], Mark(), Mark(), entries[1:]))


def test_a_smaller_epoch_is_torn() -> None:
    first = sealed(Mark().checksum, 2, 1, NOW_MS, EMPTY_PAYLOAD)
    second = sealed(first.checksum, 1, 2, NOW_MS, EMPTY_PAYLOAD)
    assert "torn" in str(recover(second, Mark(), Mark(), [first, second]))


@pytest.mark.parametrize("change", [{"payload": PAYLOADS[3]}, {"at_ms": NOW_MS + 1}, {"checksum": bytes(8)}])
def test_an_altered_entry(change: dict[str, object]) -> None:
    entries = journal(1, 1, 1, 2)
    entries[1] = msgspec.structs.replace(entries[1], **change)
    assert "altered" in str(recover(entries[-1], Mark(), Mark(), entries))


def test_another_entry_where_one_was_durable() -> None:
    seen, entries = journal(1, 1, 1), journal(1, 1)
    other = sealed(entries[-1].checksum, 1, 3, NOW_MS + 5, PAYLOADS[4])
    opening = sealed(other.checksum, 2, 4, NOW_MS, EMPTY_PAYLOAD)
    assert "replaced" in str(recover(opening, Mark(), mark(seen[-1]), [*entries, other, opening]))
    assert "replaced" in str(recover(opening, mark(other), mark(seen[-1]), [opening]))


def test_another_writer_has_opened_since() -> None:
    entries = journal(1, 1, 2, 3, 3)
    assert recover(entries[2], Mark(), mark(entries[1]), entries) == Superseded()
    assert recover(entries[2], mark(entries[4]), Mark(), []) == Superseded()


def test_writing_past_the_fence() -> None:
    entries = journal(1, 1, 2, 2)
    assert "was opened at 3" in str(recover(entries[2], Mark(), Mark(), entries))


def test_the_journal_ends_before_the_opening_entry() -> None:
    entries = journal(1, 1, 2)
    assert "the journal ends at 1-2" in str(recover(entries[2], Mark(), Mark(), entries[:2]))


def test_what_was_durable_is_gone() -> None:
    seen = journal(1, 1, 1, 1, 1)
    entries = journal(1, 1, 2)
    assert "are gone" in str(recover(entries[-1], Mark(), mark(seen[-1]), entries))


def test_postgres_ahead_of_the_journal() -> None:
    entries = journal(1, 1, 2)
    ahead = journal(1, 1, 1, 1, 1)
    assert "the journal ends at 1-5" in str(recover(entries[-1], mark(ahead[-1]), Mark(), []))


@pytest.mark.parametrize(
    ("payload", "version"),
    [
        (b"\xc1", ENTRY_VERSION),
        (b"\x91\x93\x63\x01\x02", ENTRY_VERSION),
        (PAYLOADS[3].replace(b"Ann", b"\xffnn"), ENTRY_VERSION),
        (EMPTY_PAYLOAD, ENTRY_VERSION + 1),
    ],
    ids=["no msgpack", "unknown fact", "not UTF-8", "newer version"],
)
def test_what_cannot_be_read_is_not_skipped(payload: bytes, version: int) -> None:
    entries = journal(1, 1)
    before = entries[-1].checksum
    bad = Entry(1, 3, NOW_MS, chain(before, version, 1, 3, NOW_MS, payload), payload, version)
    opening = sealed(bad.checksum, 2, 4, NOW_MS, EMPTY_PAYLOAD)
    assert "cannot be read" in str(recover(opening, Mark(), Mark(), [*entries, bad, opening]))
