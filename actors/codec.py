"""Encodings: facts in a journal entry, and messages between gateway and host. MessagePack through msgspec, arrays
with integer tags.

Rules:
1. The encoding of facts is a released format (see `actors.facts`); `tests/golden` holds every version.
2. Decoding validates: a wrong type or an unknown tag raises `msgspec.ValidationError`/`DecodeError`, never passes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from actors.commands import Command
from actors.entry import ENTRY_VERSION, Entry
from actors.facts import Fact
from actors.queries import Query
from actors.replies import Digest, Reply

Message = Command | Query


class UnknownEntryVersion(Exception):
    """The entry was written by a newer release; its partition must not be opened by this one."""


class Answers(msgspec.Struct, frozen=True, array_like=True):
    """Replies to a batch, in its order. `ticket` is not 0 when some are `Deferred`: it fetches those, in order."""

    replies: list[Reply]
    ticket: int = 0


_encoder = msgspec.msgpack.Encoder()
_facts_decoder = msgspec.msgpack.Decoder(list[Fact])
_fact_decoder: msgspec.msgpack.Decoder[Fact] = msgspec.msgpack.Decoder(Fact)
_messages_decoder = msgspec.msgpack.Decoder(list[Message])
_answers_decoder = msgspec.msgpack.Decoder(Answers)
_digest_decoder = msgspec.msgpack.Decoder(Digest)


def encode_facts(facts: Sequence[Fact]) -> bytes:
    """The payload of a journal entry."""
    return _encoder.encode(facts)


def payload_of(encoded: Sequence[bytes]) -> bytes:
    """The same, of facts that are encoded already: MessagePack's array is its length, then its elements."""
    count = len(encoded)
    if count < 16:
        head = bytes((0x90 | count,))
    elif count < 1 << 16:
        head = b"\xdc" + count.to_bytes(2, "big")
    else:
        head = b"\xdd" + count.to_bytes(4, "big")
    return head + b"".join(encoded)


def decode_facts(entry: Entry) -> list[Fact]:
    """The facts of an entry. Raises `UnknownEntryVersion`, `msgspec.DecodeError` or `msgspec.ValidationError`."""
    if entry.version != ENTRY_VERSION:
        raise UnknownEntryVersion(
            f"entry {entry.epoch}-{entry.seq} has version {entry.version}, known is {ENTRY_VERSION}"
        )
    return _facts_decoder.decode(entry.payload)


encode_fact: Callable[[Fact], bytes] = _encoder.encode
"""One fact by itself."""


def decode_fact(data: bytes) -> Fact:
    """The inverse of `encode_fact`."""
    return _fact_decoder.decode(data)


def encode_messages(messages: Sequence[Message]) -> bytes:
    """A batch from the gateway to a host."""
    return _encoder.encode(messages)


def decode_messages(data: bytes) -> list[Message]:
    """The inverse of `encode_messages`."""
    return _messages_decoder.decode(data)


def encode_answers(answers: Answers) -> bytes:
    """A host's answer to a batch."""
    return _encoder.encode(answers)


def decode_answers(data: bytes) -> Answers:
    """The inverse of `encode_answers`."""
    return _answers_decoder.decode(data)


def encode_digest(digest: Digest) -> bytes:
    """A live update, as it goes over pub/sub."""
    return _encoder.encode(digest)


def decode_digest(data: bytes) -> Digest:
    """The inverse of `encode_digest`."""
    return _digest_decoder.decode(data)
