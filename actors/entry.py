"""A journal entry: what one group commit writes, and the checksum chain that ties each entry to the one before.

Rules:
1. An entry is written once and never edited; `seq` is contiguous within a partition, across epochs too.
2. `checksum` covers the previous entry's checksum, so a lost, swapped or altered entry breaks every later one.
3. `version` names the encoding of `payload`; a reader that does not know it halts the partition, it never guesses.
"""

from __future__ import annotations

from hashlib import blake2b
from struct import Struct as Layout

import msgspec

ENTRY_VERSION = 1
CHECKSUM_BYTES = 8
GENESIS_CHECKSUM = bytes(CHECKSUM_BYTES)
ENTRY_PAYLOAD_BYTES_MAX = 1_000_000
EMPTY_PAYLOAD = b"\x90"  # msgpack's empty array: no facts, the payload of an epoch's opening entry

_HEADER = Layout(">HIQQ")


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One journal entry. `payload` is the encoded facts (see `actors.codec`), no facts for an epoch's opening entry."""

    epoch: int
    seq: int
    at_ms: int
    checksum: bytes
    payload: bytes
    version: int = ENTRY_VERSION


class Mark(msgspec.Struct, frozen=True, gc=False):
    """A place in a partition's journal: an entry's epoch, seq and checksum; all zero before the first entry.

    The tail is a mark, and so is how far Postgres holds the partition.
    """

    epoch: int = 0
    seq: int = 0
    checksum: bytes = GENESIS_CHECKSUM


def chain(previous: bytes, version: int, epoch: int, seq: int, at_ms: int, payload: bytes) -> bytes:
    """The checksum of an entry: BLAKE2b-64 over the previous checksum, the header fields and the payload."""
    digest = blake2b(previous, digest_size=CHECKSUM_BYTES)
    digest.update(_HEADER.pack(version, epoch, seq, at_ms))
    digest.update(payload)
    return digest.digest()


def sealed(previous: bytes, epoch: int, seq: int, at_ms: int, payload: bytes) -> Entry:
    """A new entry that follows the entry whose checksum is `previous`."""
    return Entry(epoch, seq, at_ms, chain(previous, ENTRY_VERSION, epoch, seq, at_ms, payload), payload)


def is_intact(previous: bytes, entry: Entry) -> bool:
    """Whether the entry's checksum is the one its content and its predecessor give."""
    return entry.checksum == chain(previous, entry.version, entry.epoch, entry.seq, entry.at_ms, entry.payload)
