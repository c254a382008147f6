"""Opening a partition: what was read of the journal is judged, and the memory is built from it.

The decision table, in this order (one test a row, `tests/core/test_recovery.py`):

| what was read                                                 | then                                        |
|---------------------------------------------------------------|---------------------------------------------|
| a seq does not follow the one before, or an epoch is smaller  | halt: the journal is torn                   |
| a checksum is not what content and predecessor give           | halt: the journal was altered               |
| at the place that was durable stands another entry            | halt: acknowledged entries were replaced    |
| another writer has opened a later epoch since                 | superseded: the partition closes            |
| the last entry is not the one that opened the epoch           | halt: somebody wrote past the fence         |
| the journal ends before what this process saw durable         | halt: acknowledged entries are gone         |
| an entry cannot be decoded, or its version is unknown         | halt: nothing is skipped                    |
| otherwise                                                     | the facts are taken in, the partition opens |
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from actors.codec import UnknownEntryVersion, decode_facts
from actors.entry import Entry, Mark, is_intact
from actors.facts import Fact


class Recovered(msgspec.Struct, frozen=True):
    """The journal's tail after Postgres' position: each entry with its facts."""

    entries: list[tuple[Entry, list[Fact]]]


class Superseded(msgspec.Struct, frozen=True):
    """Another writer took the partition between our opening it and our reading it. Nothing is wrong: we are fenced."""


def recover(opening: Entry, projected: Mark, durable: Mark, entries: Sequence[Entry]) -> Recovered | Superseded | str:
    """The tail's facts, or that it is not ours any more, or why the partition must halt. `projected` is Postgres'
    position, `durable` the last entry that this process knows to be durable (all zero when it just started), `entries`
    all that the journal holds after `projected`."""
    before = projected
    for entry in entries:
        if entry.seq != before.seq + 1 or entry.epoch < before.epoch:
            return f"the journal is torn: entry {entry.epoch}-{entry.seq} follows {before.epoch}-{before.seq}"
        if not is_intact(before.checksum, entry):
            return f"the journal was altered: entry {entry.epoch}-{entry.seq} does not match its checksum"
        if entry.seq == durable.seq and entry.checksum != durable.checksum:
            return f"acknowledged entries were replaced: {entry.epoch}-{entry.seq} is not the entry that was written"
        before = Mark(entry.epoch, entry.seq, entry.checksum)
    if before.epoch > opening.epoch:
        return Superseded()
    if before != Mark(opening.epoch, opening.seq, opening.checksum):
        return f"the journal ends at {before.epoch}-{before.seq}, but epoch {opening.epoch} was opened at {opening.seq}"
    if before.seq < durable.seq:
        return f"acknowledged entries are gone: the journal ends at {before.seq}, {durable.seq} was durable"
    if projected.seq == durable.seq and projected.checksum != durable.checksum:
        return f"acknowledged entries were replaced: Postgres holds another entry {projected.seq}"
    try:
        return Recovered([(entry, decode_facts(entry)) for entry in entries])
    except (UnknownEntryVersion, msgspec.DecodeError, ValueError) as error:
        return f"an entry cannot be read: {error}"
