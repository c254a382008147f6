"""Digests of actors' states, for the audit: equal states have equal digests, whichever way they were reached."""

from __future__ import annotations

from hashlib import blake2b

import msgspec

from actors.kinds import Actor

DIGEST_BYTES = 16
_encoder = msgspec.msgpack.Encoder(order="deterministic")


def digest_of(actor: Actor) -> bytes:
    """BLAKE2b-128 over the state's canonical encoding; the order in which an event's attendance came about does not
    matter."""
    return blake2b(_encoder.encode(actor), digest_size=DIGEST_BYTES).digest()
