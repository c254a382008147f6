"""Card credentials: "MV1:" and, in base45, a COSE_Sign1 (RFC 9052, tag 18) over a CWT (RFC 8392), signed with Ed25519.

Rules:
1. Self-contained: tenant (claim 1, iss), card (2, sub), tier (private claim -65537), validity (5 nbf, 4 exp, in
   seconds, optional), time of issue (6, iat), serial (7, cti: a number in as few bytes as it takes, big-endian; absent
   is 0). A door without a network can judge it with the tenant's public key. A card that is issued again gets the next
   serial; that an older one is good no more is the engine's to say.
2. No key is stored: a tenant's signing key is HKDF-SHA256 of the master secret, the tenant id and the key id. Rotation
   is issuing under the next key id while the earlier ones stay accepted; retiring a key is dropping its id.
3. One credential has exactly one text: the frame's layout is compared byte by byte, and only bytes whose signature held
   reach a general CBOR decoder.
4. A signature is checked by making it again: Ed25519 is deterministic (RFC 8032 §5.1.6), and making one takes a third
   of what checking one with the public key does. It also lets through no other text than the one that we issued.
   Who has only public keys (`gateway.published_keys`) checks as usual.
5. `verify` is a pure function of the text; it does not look at the clock (the partition judges validity, at the scan's
   time). Good texts are cached, bad ones never, so forgeries cannot push good ones out.
6. A card that is shown on a phone has `MV1R:`, the same in base45, and the eight digits of its code
   (`gateway.rotating`), always the last eight characters. Its signature covers "MV1R:" too (external data, RFC 9052
   §4.3), so that what is cut out of a screenshot is no credential without its code. A door without a network can check
   all but the code.
7. `read` takes whatever a scanner reads: this, a rotating one, or an NFC tag's (`gateway.tags`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from hmac import compare_digest
from sys import intern
from typing import Literal, TypeAlias, get_args

import cbor2
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from actors.terms import Tier
from gateway import limits, tags
from gateway.base45 import b45decode, b45encode
from gateway.ids import is_id
from gateway.rotating import DIGITS, RotatingCodes

PREFIX = "MV1:"
ROTATING_PREFIX = "MV1R:"
CLAIM_ISS, CLAIM_SUB, CLAIM_EXP, CLAIM_NBF, CLAIM_IAT, CLAIM_CTI = 1, 2, 4, 5, 6, 7
CLAIM_TIER = -65537
_TIERS: frozenset[str] = frozenset(get_args(Tier))
_FRAME_START = b"\xd2\x84"  # tag 18, array of 4
_SIGNATURE_BYTES = 64
_SIGNATURE_HEAD = b"\x58\x40"  # byte string of 64
_NO_UNPROTECTED = b"\xa0"  # empty map
_EXTERNAL = {PREFIX: b"", ROTATING_PREFIX: ROTATING_PREFIX.encode()}  # what is signed besides


SignatureCheck: TypeAlias = Callable[[str, int, bytes, bytes], bool]
"""Of a tenant and a key id: whether a signature is theirs, and of these bytes."""


class CredentialClaims(msgspec.Struct, frozen=True, gc=False):
    """What a verified credential says. `valid_*_ms` of 0: no bound; validity runs from the first until before the
    second."""

    tenant_id: str
    card_id: str
    tier: str
    key_id: int
    issued_at_ms: int
    valid_from_ms: int = 0
    valid_until_ms: int = 0
    serial: int = 0


class Presented(msgspec.Struct, frozen=True, gc=False):
    """What somebody held before a scanner, in whatever form. A tag tells `tag_uid` and `tag_counter` and not whose card
    it is: `card_id` and `tier` are "" then. `valid_*_ms` are as in `CredentialClaims`; those of a rotating one are
    never wider than its code's."""

    form: Literal["static", "rotating", "tag"]
    tenant_id: str
    card_id: str = ""
    tier: str = ""
    serial: int = 0
    key_id: int = 0
    valid_from_ms: int = 0
    valid_until_ms: int = 0
    tag_uid: str = ""
    tag_counter: int = 0
    tag_file_data: bytes | None = None


class Forged(Exception):
    """The text is no credential of ours. An exception, because `lru_cache` keeps results but not exceptions (rule
    5)."""


class CredentialBook:
    """Issues and verifies the credentials of all tenants. `key_ids` (0-255) are accepted; the last one signs."""

    def __init__(
        self,
        master_secret: bytes,
        key_ids: Sequence[int] = (1,),
        cache_entries: int = limits.CREDENTIAL_CACHE_ENTRIES_MAX,
    ) -> None:
        if len(master_secret) < 32:
            raise ValueError("the master secret must have at least 32 bytes")
        check_key_ids(key_ids)
        self._master_secret = master_secret
        self._signing_key_id = key_ids[-1]
        self._key_ids = frozenset(key_ids)
        keys = limits.SIGNING_KEY_CACHE_ENTRIES_MAX
        self._private_key: Callable[[str, int], Ed25519PrivateKey] = lru_cache(keys)(self._derive)
        self._public_key: Callable[[str, int], Ed25519PublicKey] = lru_cache(keys)(self._derive_public)
        self._claims: Callable[[str], CredentialClaims] = lru_cache(cache_entries)(self._open)
        self.tags = tags.TagBook(master_secret)
        self.codes = RotatingCodes(master_secret)

    def issue(
        self,
        tenant_id: str,
        card_id: str,
        tier: str,
        issued_at_ms: int,
        valid_from_ms: int = 0,
        valid_until_ms: int = 0,
        serial: int = 0,
        *,
        is_rotating: bool = False,
    ) -> str:
        """The text that goes into the card's QR code; with `is_rotating` all of it but the code, which is appended.
        Deterministic. Bounds are cut to whole seconds, always inwards."""
        assert 0 <= serial <= limits.CREDENTIAL_SERIAL_MAX, serial
        claims: dict[int, str | int | bytes] = {CLAIM_ISS: tenant_id, CLAIM_SUB: card_id}
        if valid_until_ms:
            claims[CLAIM_EXP] = valid_until_ms // 1000
        if valid_from_ms:
            claims[CLAIM_NBF] = -(-valid_from_ms // 1000)
        claims[CLAIM_IAT] = issued_at_ms // 1000
        if serial:
            claims[CLAIM_CTI] = _minimal(serial)
        claims[CLAIM_TIER] = tier
        prefix = ROTATING_PREFIX if is_rotating else PREFIX
        payload = cbor2.dumps(claims)
        protected = _protected(self._signing_key_id)
        signature = self._private_key(tenant_id, self._signing_key_id).sign(
            _to_be_signed(protected, payload, _EXTERNAL[prefix])
        )
        frame = _FRAME_START + _bstr(protected) + _NO_UNPROTECTED + _bstr(payload) + _SIGNATURE_HEAD + signature
        return prefix + b45encode(frame)

    def verify(self, text: str) -> CredentialClaims | None:
        """What a static credential says, None when it is not one of ours. Bad texts cost a signature check each
        time."""
        return self._verified(text) if text.startswith(PREFIX) else None

    def read(self, text: str, at_ms: int) -> Presented | None:
        """What was presented, None when it is nothing of ours. `at_ms` is when: a code of more than ten minutes before
        it counts as made up. A tag's tap may come as its text or as the URL that the tag holds."""
        if text.startswith(PREFIX):
            claims = self._verified(text)
            return None if claims is None else _presented("static", claims, claims.valid_from_ms, claims.valid_until_ms)
        if text.startswith(ROTATING_PREFIX):
            return self._read_rotating(text, at_ms)
        return self._read_tag(text)

    def _verified(self, text: str) -> CredentialClaims | None:
        try:
            return self._claims(text)
        except Forged:
            return None

    def _read_rotating(self, text: str, at_ms: int) -> Presented | None:
        """Rule 6."""
        claims = self._verified(text[:-DIGITS])
        if claims is None:
            return None
        of_code = self.codes.valid_ms(claims.tenant_id, claims.card_id, claims.serial, text[-DIGITS:], at_ms)
        if of_code is None:
            return None
        valid_until_ms = min(claims.valid_until_ms or of_code[1], of_code[1])
        return _presented("rotating", claims, max(claims.valid_from_ms, of_code[0]), valid_until_ms)

    def _read_tag(self, text: str) -> Presented | None:
        message = tags.parse(tags.text_of_url(text) or text)
        reading = None if message is None else self.tags.read(message)
        if message is None or reading is None:
            return None
        return Presented(
            "tag",
            message.tenant_id,
            tag_uid=reading.uid,
            tag_counter=reading.counter,
            tag_file_data=reading.file_data,
        )

    def public_keys(self, tenant_id: str) -> dict[int, bytes]:
        """Raw Ed25519 public keys by key id, all that are accepted: what an offline scanner needs."""
        return {
            key_id: self._public_key(tenant_id, key_id).public_bytes(Encoding.Raw, PublicFormat.Raw)
            for key_id in sorted(self._key_ids)
        }

    def _derive(self, tenant_id: str, key_id: int) -> Ed25519PrivateKey:
        info = b"mastervip card credential\0" + tenant_id.encode() + b"\0" + bytes([key_id])
        return Ed25519PrivateKey.from_private_bytes(HKDF(SHA256(), 32, None, info).derive(self._master_secret))

    def _derive_public(self, tenant_id: str, key_id: int) -> Ed25519PublicKey:
        return self._private_key(tenant_id, key_id).public_key()

    def _open(self, text: str) -> CredentialClaims:
        return opened(text, self._key_ids, self._is_signed)

    def _is_signed(self, tenant_id: str, key_id: int, signature: bytes, signed: bytes) -> bool:
        """Rule 4."""
        return compare_digest(signature, self._private_key(tenant_id, key_id).sign(signed))


def opened(text: str, key_ids: Collection[int], is_signed: SignatureCheck) -> CredentialClaims:
    """What a credential says, static or all of a rotating one but its code (rules 3 to 5). `is_signed` says whether a
    signature is that of a tenant and one of the `key_ids`; it may raise `Forged`, as this does."""
    prefix, colon, rest = text.partition(":")
    external = _EXTERNAL.get(prefix + colon)
    if len(text) > limits.CREDENTIAL_CHARS_MAX or external is None:
        raise Forged
    try:
        frame = b45decode(rest)
    except ValueError:
        raise Forged from None
    key_id, payload, signature = _split(frame, key_ids)
    if not is_signed(_issuer(payload), key_id, signature, _to_be_signed(_protected(key_id), payload, external)):
        raise Forged
    return _claims(cbor2.loads(payload), key_id)


def _split(frame: bytes, key_ids: Collection[int]) -> tuple[int, bytes, bytes]:
    """Key id, payload and signature of a frame that has exactly our layout."""
    head = _FRAME_START + _bstr(_protected(0))
    payload_at = len(head) + 1
    if len(frame) < payload_at + 2 + len(_SIGNATURE_HEAD) + _SIGNATURE_BYTES:
        raise Forged
    key_id = frame[len(head) - 1]
    if key_id not in key_ids or frame[:payload_at] != _FRAME_START + _bstr(_protected(key_id)) + _NO_UNPROTECTED:
        raise Forged
    signature_at = len(frame) - _SIGNATURE_BYTES - len(_SIGNATURE_HEAD)
    payload_bytes = signature_at - payload_at - 2
    # Between 24 and 255 bytes have a head of two: 0x58 and the length. `issue` makes no others.
    if not 24 <= payload_bytes <= 255 or frame[payload_at : payload_at + 2] != bytes((0x58, payload_bytes)):
        raise Forged
    if frame[signature_at : signature_at + 2] != _SIGNATURE_HEAD:
        raise Forged
    return key_id, frame[payload_at + 2 : signature_at], frame[signature_at + 2 :]


def check_key_ids(key_ids: Sequence[int]) -> None:
    """Raises `ValueError` for what cannot be the ids of signing keys."""
    if not key_ids or not all(0 <= key_id <= 255 for key_id in key_ids):
        raise ValueError("key ids are 0-255, at least one")
    if len(set(key_ids)) != len(key_ids):
        raise ValueError("each key id stands there once")


def _protected(key_id: int) -> bytes:
    """The protected header {1 (alg): -8 (EdDSA), 4 (kid): one byte}."""
    return bytes((0xA2, 0x01, 0x27, 0x04, 0x41, key_id))


def _bstr(data: bytes) -> bytes:
    """A CBOR byte string."""
    return cbor2.dumps(data)


def _to_be_signed(protected: bytes, payload: bytes, external: bytes) -> bytes:
    """The Sig_structure of RFC 9052 §4.4."""
    return cbor2.dumps(["Signature1", protected, external, payload])


def _minimal(serial: int) -> bytes:
    """A serial in as few bytes as it takes."""
    return serial.to_bytes((serial.bit_length() + 7) // 8, "big")


def _serial(cti: object) -> int:
    """The serial that claim 7 tells; None is 0. Raises `Forged`."""
    if cti is None:
        return 0
    if not isinstance(cti, bytes) or not 1 <= len(cti) <= 4 or cti[0] == 0:
        raise Forged
    return int.from_bytes(cti, "big")


def _issuer(payload: bytes) -> str:
    """The tenant that an unverified payload names: `issue` writes it as the map's first entry."""
    if payload[1] != CLAIM_ISS or payload[0] >> 5 != 5:
        raise Forged
    head = payload[2]
    if 0x60 <= head <= 0x77:
        text = payload[3 : 3 + head - 0x60]
    elif head == 0x78:
        text = payload[4 : 4 + payload[3]]
    else:
        raise Forged
    tenant_id = text.decode("ascii", "replace")
    if not is_id(tenant_id):
        raise Forged
    return tenant_id


def _claims(claims: dict[int, object], key_id: int) -> CredentialClaims:
    """Signed by us, so anything unexpected here is a credential of a later release: not known, hence not good."""
    tenant_id, card_id, tier = claims.get(CLAIM_ISS), claims.get(CLAIM_SUB), claims.get(CLAIM_TIER)
    valid_from, valid_until, issued_at = claims.get(CLAIM_NBF, 0), claims.get(CLAIM_EXP, 0), claims.get(CLAIM_IAT, 0)
    if not isinstance(tenant_id, str) or not isinstance(card_id, str) or tier not in _TIERS:
        raise Forged
    if not isinstance(valid_from, int) or not isinstance(valid_until, int) or not isinstance(issued_at, int):
        raise Forged
    return CredentialClaims(
        intern(tenant_id),
        card_id,
        intern(str(tier)),
        key_id,
        issued_at * 1000,
        valid_from * 1000,
        valid_until * 1000,
        _serial(claims.get(CLAIM_CTI)),
    )


def _presented(
    form: Literal["static", "rotating"], claims: CredentialClaims, valid_from_ms: int, valid_until_ms: int
) -> Presented:
    return Presented(
        form, claims.tenant_id, claims.card_id, claims.tier, claims.serial, claims.key_id, valid_from_ms, valid_until_ms
    )
