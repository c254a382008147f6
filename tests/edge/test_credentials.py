"""Card credentials: the standards they follow, what is refused, and that they fit a quick-scanning code."""

from __future__ import annotations

import json
import time
from io import BytesIO
from pathlib import Path

import cbor2
import pytest
import segno
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicNumbers
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import limits
from gateway.base45 import b45decode, b45encode
from gateway.credential_images import ndef_text, ndef_uri, qr_code, qr_png, qr_svg
from gateway.credentials import PREFIX, CredentialBook, CredentialClaims, _to_be_signed
from gateway.rotating import step_of

MASTER = bytes(range(32))
TENANT, CARD = "org_01k3zq8w5x4v7m9n2p6r", "card_01k3zq8w5x4v7m9n2p6r"
ISSUED_MS = 1_767_225_600_000


@pytest.fixture
def book() -> CredentialBook:
    return CredentialBook(MASTER, (1, 2))


# --- base45, RFC 9285 §4.3 and §4.4 -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "text"),
    [(b"AB", "BB8"), (b"Hello!!", "%69 VD92EX0"), (b"base-45", "UJCLQE7W581"), (b"ietf!", "QED8WEX0"), (b"", "")],
)
def test_base45_vectors(data: bytes, text: str) -> None:
    assert b45encode(data) == text
    assert b45decode(text) == data


@pytest.mark.parametrize("text", ["A", "AAAA", "GGW", ":::", "::", "5 8a", "ab0", "é00"])
def test_base45_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="base45"):
        b45decode(text)


@given(st.binary(max_size=300))
@settings(max_examples=200)
def test_base45_is_reversible(data: bytes) -> None:
    assert b45decode(b45encode(data)) == data


# --- structure --------------------------------------------------------------------------------------------------------


def test_the_sig_structure_is_that_of_the_standard() -> None:
    """RFC 8392 A.3: our to-be-signed bytes are what its signature was made over (ES256 there, Ed25519 here)."""
    signed = bytes.fromhex(
        "d28443a10126a104524173796d6d657472696345434453413235365850a70175636f61703a2f2f61732e6578616d706c652e636f6d026565"
        "72696b77037818636f61703a2f2f6c696768742e6578616d706c652e636f6d041a5612aeb0051a5610d9f0061a5610d9f007420b7158405427"
        "c1ff28d23fbad1f29c4c7c6a555e601d6fa29f9179bc3d7438bacaca5acd08c8d4d4f96131680c429a01f85951ecee743a52b9b63632c57209"
        "120e1c9e30"
    )
    protected, _, payload, signature = cbor2.loads(signed).value
    x = int("143329cce7868e416927599cf65a34f3ce2ffda55a7eca69ed8919a394d42f0f", 16)
    y = int("60f7f1a780d8a783bfb7a2dd6b2796e8128dbbcef9d3d168db9529971a36e7b9", 16)
    key = EllipticCurvePublicNumbers(x, y, SECP256R1()).public_key()
    der = encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
    key.verify(der, _to_be_signed(protected, payload, b""), ECDSA(SHA256()))


def test_any_cose_reader_can_read_it(book: CredentialBook) -> None:
    text = book.issue(TENANT, CARD, "gold", ISSUED_MS, ISSUED_MS, ISSUED_MS + 86_400_000)
    message = cbor2.loads(b45decode(text.removeprefix(PREFIX)))
    assert message.tag == 18
    protected, unprotected, payload, signature = message.value
    assert cbor2.loads(protected) == {1: -8, 4: b"\x02"}
    assert unprotected == {}
    seconds = ISSUED_MS // 1000
    assert cbor2.loads(payload) == {
        1: TENANT, 2: CARD, 4: seconds + 86_400, 5: seconds, 6: seconds, -65537: "gold",
    }  # fmt: skip
    to_be_signed = cbor2.dumps(["Signature1", protected, b"", payload])
    Ed25519PublicKey.from_public_bytes(book.public_keys(TENANT)[2]).verify(signature, to_be_signed)


def test_a_credential_says_what_was_issued(book: CredentialBook) -> None:
    text = book.issue(TENANT, CARD, "diamond", ISSUED_MS + 999, ISSUED_MS + 1, ISSUED_MS + 90_999)
    assert book.verify(text) == CredentialClaims(
        TENANT, CARD, "diamond", 2, ISSUED_MS, ISSUED_MS + 1_000, ISSUED_MS + 90_000
    ), "bounds are whole seconds, cut inwards"
    assert book.verify(book.issue(TENANT, CARD, "gold", ISSUED_MS)) == CredentialClaims(
        TENANT, CARD, "gold", 2, ISSUED_MS
    )


def test_golden(book: CredentialBook) -> None:
    """A released credential stays good: cards are printed once."""
    golden = json.loads((Path(__file__).parents[1] / "golden" / "credentials.json").read_text())
    for case in golden:
        old = CredentialBook(bytes.fromhex(case["master_secret"]), case["key_ids"])
        claims = CredentialClaims(**case["claims"])
        code = case.get("code", "")
        presented = old.read(case["text"] + code, claims.issued_at_ms)
        assert presented is not None
        assert all(getattr(presented, name) == getattr(claims, name) for name in ("tenant_id", "card_id", "serial"))
        assert old.verify(case["text"]) == (None if code else claims)
        times = (claims.issued_at_ms, claims.valid_from_ms, claims.valid_until_ms)
        issued = old.issue(claims.tenant_id, claims.card_id, claims.tier, *times, claims.serial, is_rotating=bool(code))
        assert issued == case["text"]
        assert not code or old.codes.code(*_card_of(claims), step_of(claims.issued_at_ms)) == code


def _card_of(claims: CredentialClaims) -> tuple[str, str, int]:
    return claims.tenant_id, claims.card_id, claims.serial


# --- what is refused --------------------------------------------------------------------------------------------------


def test_every_altered_byte_is_refused(book: CredentialBook) -> None:
    frame = b45decode(book.issue(TENANT, CARD, "gold", ISSUED_MS).removeprefix(PREFIX))
    for at in range(len(frame)):
        for flip in (1, 0x80):
            altered = bytearray(frame)
            altered[at] ^= flip
            assert book.verify(PREFIX + b45encode(bytes(altered))) is None, f"byte {at}"


def test_every_cut_is_refused(book: CredentialBook) -> None:
    text = book.issue(TENANT, CARD, "gold", ISSUED_MS)
    assert all(book.verify(text[:length]) is None for length in range(len(text)))
    assert book.verify(text + "0") is None
    assert book.verify(text.lower()) is None
    assert book.verify(" " + text) is None


@pytest.mark.parametrize("payload_bytes", [0, 1, 23, 24, 255, 256, 300])
def test_a_frame_of_another_length_is_refused(book: CredentialBook, payload_bytes: int) -> None:
    head = b"\xd2\x84\x46\xa2\x01\x27\x04\x41\x01\xa0"
    payload = bytes((0x58, payload_bytes % 256)) + b"\xa1\x01\x61a".ljust(payload_bytes, b"\0")[:payload_bytes]
    assert len(head + payload + b"\x58\x40" + bytes(64)) < 400
    assert book.verify(PREFIX + b45encode(head + payload + b"\x58\x40" + bytes(64))) is None


def test_another_tenants_key_or_another_secret_is_refused(book: CredentialBook) -> None:
    ours = b45decode(book.issue("org_aaaa", CARD, "gold", ISSUED_MS).removeprefix(PREFIX))
    theirs = ours.replace(b"org_aaaa", b"org_bbbb")
    assert book.verify(PREFIX + b45encode(theirs)) is None
    assert book.verify(CredentialBook(b"x" * 32, (1, 2)).issue(TENANT, CARD, "gold", ISSUED_MS)) is None


def test_rotation_accepts_earlier_keys_until_they_are_retired() -> None:
    text = CredentialBook(MASTER, (1,)).issue(TENANT, CARD, "gold", ISSUED_MS)
    rotated, retired = CredentialBook(MASTER, (1, 2)), CredentialBook(MASTER, (2,))
    assert rotated.verify(text) is not None
    assert rotated.issue(TENANT, CARD, "gold", ISSUED_MS) != text
    assert retired.verify(text) is None
    assert set(rotated.public_keys(TENANT)) == {1, 2}


@given(st.text(max_size=600) | st.binary(max_size=300).map(lambda data: PREFIX + b45encode(data)))
@settings(max_examples=300, deadline=None)
def test_no_text_raises(text: str) -> None:
    assert CredentialBook(MASTER, (1,), 16).verify(text) is None


def test_bad_texts_are_not_kept() -> None:
    book = CredentialBook(MASTER, (1,), cache_entries=4)
    good = book.issue(TENANT, CARD, "gold", ISSUED_MS)
    assert book.verify(good) is not None
    for number in range(100):
        assert book.verify(good[:-3] + f"{number:03}") is None
    assert book._claims.cache_info().currsize == 1  # type: ignore[attr-defined]


def test_the_cache_holds_a_stadium() -> None:
    assert limits.CREDENTIAL_CACHE_ENTRIES_MAX >= 200_000


def test_a_cached_credential_costs_little(book: CredentialBook) -> None:
    """As the door reads it, 0.3 µs; the budget is 3."""
    text = book.issue(TENANT, CARD, "gold", ISSUED_MS)
    book.read(text, ISSUED_MS)
    started = time.process_time()
    for _ in range(20_000):
        book.read(text, ISSUED_MS)
    assert (time.process_time() - started) / 20_000 * 1e6 < 3


# --- pictures and tags ------------------------------------------------------------------------------------------------


def test_the_longest_credential_fits_a_quick_code(book: CredentialBook) -> None:
    text = book.issue(TENANT, CARD, "platinum", ISSUED_MS, ISSUED_MS, ISSUED_MS + 10**11)
    code = qr_code(text)
    assert code.mode == "alphanumeric"
    assert int(code.version) <= 10
    assert code.error == "L"


def test_pictures(book: CredentialBook) -> None:
    text = book.issue(TENANT, CARD, "gold", ISSUED_MS)
    assert BytesIO(qr_png(text)).read(8) == b"\x89PNG\r\n\x1a\n"
    assert b"<svg" in qr_svg(text)


def test_sizes_of_codes(book: CredentialBook) -> None:
    """The figures in `gateway.credential_images`."""
    plain = book.issue(TENANT, CARD, "gold", ISSUED_MS)
    full = book.issue(TENANT, CARD, "platinum", ISSUED_MS, ISSUED_MS, ISSUED_MS + 10**11, 1, is_rotating=True)
    for text, versions in ((plain, [8, 9, 11]), (full + "12345678", [8, 10, 12])):
        assert [segno.make_qr(text, error=level, boost_error=False).version for level in "LMQ"] == versions
        assert qr_code(text).version == versions[0]


def test_ndef_uri_vector() -> None:
    """NXP's example (integrations.md §5.4)."""
    uri = ndef_uri("https://ntag.nxp.com/424?e=00")
    assert uri.hex() == "d1011655046e7461672e6e78702e636f6d2f3432343f653d3030"


def test_ndef_text_is_a_long_record_where_it_must_be(book: CredentialBook) -> None:
    assert ndef_text("ok") == bytes.fromhex("d1010554") + b"\x02enok"
    text = book.issue(TENANT, CARD, "platinum", ISSUED_MS, ISSUED_MS, ISSUED_MS + 10**11)
    record = ndef_text(text)
    assert record[:2] == b"\xc1\x01"
    assert int.from_bytes(record[2:6], "big") == len(text) + 3
    assert record[6:] == b"T\x02en" + text.encode()


def test_keys_are_checked() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        CredentialBook(b"short")
    for key_ids in ((), (256,), (1, -1)):
        with pytest.raises(ValueError, match="0-255"):
            CredentialBook(MASTER, key_ids)
    with pytest.raises(ValueError, match="once"):
        CredentialBook(MASTER, (2, 1, 2))
