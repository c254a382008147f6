"""The wire between gateway and host: a handshake, then frames. Pure: bytes in, bytes out.

    host → gateway    hello: magic, version, the host's nonce
    gateway → host    claim: the gateway's nonce, its proof, the incarnation that it means to talk to
    host → gateway    the host's proof
    both ways         frames: length of the rest (u32, big-endian), call id (u64), kind (u8), payload

Rules:
1. Nothing is sent ahead: whatever comes behind a message of the handshake, before that was answered, is an error.
2. A proof is an HMAC-SHA256 over the side, both nonces and the incarnation, under a key derived from the master secret:
   it holds for one connection, one direction and one process, and cannot be sent back to whoever made it.
3. A gateway gives each call an id that it has not used on this connection, counting up. Each request has one answer;
   answers come in any order.
4. Malformed input is a `WireError` and nothing else. It ends the connection: where the next frame begins is unknown.
5. Frames are neither encrypted nor signed, like those of Redis and Postgres beside them: who can alter packets between
   the nodes of a cluster must be kept out of its network.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Collection
from typing import Literal, NamedTuple

import msgspec

MAGIC = b"MVip"
VERSION = 1
NONCE_BYTES = 32
PROOF_BYTES = 32
INCARNATION_BYTES_MAX = 255
HANDSHAKE_TIMEOUT_MS = 3_000

REQUEST_BYTES_MAX = 4 * 1024 * 1024
ANSWER_BYTES_MAX = 64 * 1024 * 1024  # a batch of questions for long boards is far longer than the questions
CALLS_PER_CONNECTION_MAX = 256

# Kinds of frames: what a gateway asks, what a host answers.
SUBMIT, COLLECT = 1, 2
OK, FAILED = 128, 129
REQUESTS = frozenset({SUBMIT, COLLECT})
ANSWERS = frozenset({OK, FAILED})

Side = Literal[b"gateway", b"host"]

_HELLO = struct.Struct(f">{len(MAGIC)}sB{NONCE_BYTES}s")
_CLAIM = struct.Struct(f">{NONCE_BYTES}s{PROOF_BYTES}sB")  # and the incarnation, as long as the last byte says
_FRAME = struct.Struct(">IQB")
_LENGTH_BYTES = 4
_REST_BYTES_MIN = _FRAME.size - _LENGTH_BYTES
_TICKET = struct.Struct(">Q")


class WireError(Exception):
    """The other side does not keep to this wire, or could not prove who it is."""


class HostAddress(msgspec.Struct, frozen=True):
    """Where a host's process listens."""

    incarnation: str
    ip: str
    port: int


class Frame(NamedTuple):
    """A request or an answer."""

    call_id: int
    kind: int
    payload: bytes


def encode_frame(call_id: int, kind: int, payload: bytes) -> bytes:
    """A frame as it is sent."""
    return _FRAME.pack(_REST_BYTES_MIN + len(payload), call_id, kind) + payload


def encode_ticket(ticket: int) -> bytes:
    """The payload of a `COLLECT`."""
    return _TICKET.pack(ticket)


def decode_ticket(payload: bytes) -> int:
    """The inverse of `encode_ticket`. Raises `WireError`."""
    if len(payload) != _TICKET.size:
        raise WireError(f"a ticket of {len(payload)} bytes")
    (ticket,) = _TICKET.unpack(payload)
    return int(ticket)


class FrameDecoder:
    """Puts frames together from the bytes of one direction, however these are cut."""

    def __init__(self, kinds: Collection[int], payload_bytes_max: int) -> None:
        self._kinds = kinds
        self._rest_bytes_max = _REST_BYTES_MIN + payload_bytes_max
        # An unfinished frame, in the pieces in which it came (joining them one by one would copy it over and over), and
        # how many bytes more are needed to go on with it.
        self._pieces: list[bytes] = []
        self._missing_bytes = 0

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that these bytes complete. Raises `WireError`; then the decoder is of no more use."""
        if self._pieces:
            self._pieces.append(data)
            self._missing_bytes -= len(data)
            if self._missing_bytes > 0:
                return []
            data = b"".join(self._pieces)
            self._pieces.clear()
        frames: list[Frame] = []
        at, size = 0, len(data)
        while at < size:
            end = at + self._frame_bytes(data, at)
            if end > size:
                self._pieces.append(data[at:])
                self._missing_bytes = end - size
                break
            _, call_id, kind = _FRAME.unpack_from(data, at)
            if kind not in self._kinds:
                raise WireError(f"a frame of kind {kind}")
            frames.append(Frame(call_id, kind, data[at + _FRAME.size : end]))
            at = end
        return frames

    def _frame_bytes(self, data: bytes, at: int) -> int:
        """How long the frame is that begins there, at least: as long as its length is not all there, that of one."""
        if len(data) - at < _LENGTH_BYTES:
            return _LENGTH_BYTES
        length = int.from_bytes(data[at : at + _LENGTH_BYTES], "big")
        if not _REST_BYTES_MIN <= length <= self._rest_bytes_max:
            raise WireError(f"a frame of {length} bytes; {_REST_BYTES_MIN} to {self._rest_bytes_max} may be")
        return _LENGTH_BYTES + length


def wire_key(master_secret: bytes) -> bytes:
    """The key of all proofs. Each purpose has a key of its own, derived from the master secret."""
    return hmac.digest(master_secret, b"mastervip calls between gateways and hosts", "sha256")


def proof(key: bytes, side: Side, host_nonce: bytes, gateway_nonce: bytes, incarnation: bytes) -> bytes:
    """What only `side` sends, and only who knows the key can make. All parts but the last have a fixed length."""
    message = side.ljust(8, b"\0") + bytes([VERSION]) + host_nonce + gateway_nonce + incarnation
    return hmac.digest(key, message, "sha256")


class HostHandshake:
    """The host's side: send `hello`, feed what comes, send what `feed` returns."""

    def __init__(self, key: bytes, incarnation: str, nonce: bytes) -> None:
        self.hello = _HELLO.pack(MAGIC, VERSION, nonce)
        self._key = key
        self._incarnation = _incarnation_bytes(incarnation)
        self._nonce = nonce
        self._received = b""

    def feed(self, data: bytes) -> bytes | None:
        """The host's proof once the gateway has given its own; None before. Raises `WireError`."""
        self._received += data
        if len(self._received) < _CLAIM.size:
            return None
        gateway_nonce, given, length = _CLAIM.unpack_from(self._received)
        if len(self._received) < _CLAIM.size + length:
            return None
        incarnation = self._received[_CLAIM.size : _CLAIM.size + length]
        if len(self._received) > _CLAIM.size + length:
            raise WireError("there is more behind the gateway's claim")
        expected = proof(self._key, b"gateway", self._nonce, gateway_nonce, incarnation)
        if not hmac.compare_digest(given, expected):
            raise WireError("a wrong proof")
        if incarnation != self._incarnation:
            raise WireError("meant for another incarnation")
        return proof(self._key, b"host", self._nonce, gateway_nonce, incarnation)


class GatewayHandshake:
    """The gateway's side: feed what comes, send what `feed` returns, until `is_done`."""

    def __init__(self, key: bytes, incarnation: str, nonce: bytes) -> None:
        self.is_done = False
        self._key = key
        self._incarnation = _incarnation_bytes(incarnation)
        self._nonce = nonce
        self._expected: bytes | None = None
        self._received = b""

    def feed(self, data: bytes) -> bytes:
        """What has to be sent now; may be nothing. Raises `WireError`."""
        self._received += data
        if self._expected is None:
            return self._claim()
        if len(self._received) > PROOF_BYTES:
            raise WireError("there is more behind the host's proof")
        if len(self._received) == PROOF_BYTES:
            if not hmac.compare_digest(self._received, self._expected):
                raise WireError("a wrong proof")
            self.is_done = True
        return b""

    def _claim(self) -> bytes:
        if not MAGIC.startswith(self._received[: len(MAGIC)]):
            raise WireError("whoever listens there is no host")
        if len(self._received) < _HELLO.size:
            return b""
        _, version, host_nonce = _HELLO.unpack_from(self._received)
        if version != VERSION:
            raise WireError(f"the host speaks version {version}, known is {VERSION}")
        if len(self._received) > _HELLO.size:
            raise WireError("there is more behind the host's hello")
        self._received = b""
        self._expected = proof(self._key, b"host", host_nonce, self._nonce, self._incarnation)
        given = proof(self._key, b"gateway", host_nonce, self._nonce, self._incarnation)
        return _CLAIM.pack(self._nonce, given, len(self._incarnation)) + self._incarnation


def _incarnation_bytes(incarnation: str) -> bytes:
    encoded = incarnation.encode()
    if len(encoded) > INCARNATION_BYTES_MAX:
        raise ValueError(f"an incarnation may have {INCARNATION_BYTES_MAX} bytes, not {len(encoded)}")
    return encoded
