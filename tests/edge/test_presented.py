"""What a scanner reads, in every form: plain and rotating credentials with their serials, and tags' taps."""

from __future__ import annotations

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.base45 import b45decode, b45encode
from gateway.credentials import PREFIX, ROTATING_PREFIX, CredentialBook, Presented
from gateway.limits import CREDENTIAL_CHARS_MAX, CREDENTIAL_SERIAL_MAX, ID_CHARS_MAX
from gateway.rotating import step_of
from gateway.tags import TagBook, text_of_url
from tests.support.fake_tag import FakeTag

MASTER = bytes(range(32))
TENANT, CARD = "org_01k3zq8w5x4v7m9n2p6r", "card_01k3zq8w5x4v7m9n2p6r"
NOW_MS = 1_767_225_600_000
DAY_MS = 86_400_000


@pytest.fixture
def book() -> CredentialBook:
    return CredentialBook(MASTER, (1, 2))


def rotating(book: CredentialBook, *, serial: int = 0, at_ms: int = NOW_MS, from_ms: int = 0, until_ms: int = 0) -> str:
    """What the phone shows at a time."""
    base = book.issue(TENANT, CARD, "gold", NOW_MS, from_ms, until_ms, serial, is_rotating=True)
    return base + book.codes.code(TENANT, CARD, serial, step_of(at_ms))


# --- serials ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("serial", [1, 2, 255, 256, 65_535, 65_536, CREDENTIAL_SERIAL_MAX])
def test_a_serial_comes_back(book: CredentialBook, serial: int) -> None:
    text = book.issue(TENANT, CARD, "gold", NOW_MS, serial=serial)
    claims, presented = book.verify(text), book.read(text, NOW_MS)
    assert claims is not None
    assert presented is not None
    assert claims.serial == presented.serial == serial


def test_a_serial_is_claim_7_in_as_few_bytes_as_it_takes(book: CredentialBook) -> None:
    def claims(serial: int) -> dict[int, object]:
        text = book.issue(TENANT, CARD, "gold", NOW_MS, serial=serial)
        found: dict[int, object] = cbor2.loads(cbor2.loads(b45decode(text.removeprefix(PREFIX))).value[2])
        return found

    assert 7 not in claims(0), "what is printed already has none, and stays as it is"
    assert (claims(1)[7], claims(256)[7]) == (b"\x01", b"\x01\x00")


@pytest.mark.parametrize("cti", [b"", b"\0", b"\0\1", b"\1\2\3\4\5", 1, "1", -1])
def test_a_serial_in_another_writing_is_refused(book: CredentialBook, cti: object) -> None:
    """One that another release signed: not known, hence not good."""
    claims = {1: TENANT, 2: CARD, 6: NOW_MS // 1000, 7: cti, -65537: "gold"}
    assert book.verify(signed(book, claims)) is None
    good = book.verify(signed(book, claims | {7: b"\1"}))
    assert good is not None
    assert good.serial == 1


def signed(book: CredentialBook, claims: dict[int, object]) -> str:
    """A credential with claims that `issue` would not make."""
    protected, payload = b"\xa2\x01\x27\x04\x41\x02", cbor2.dumps(claims)
    signature = book._private_key(TENANT, 2).sign(cbor2.dumps(["Signature1", protected, b"", payload]))
    return PREFIX + b45encode(cbor2.dumps(cbor2.CBORTag(18, [protected, {}, payload, signature])))


# --- rotating ---------------------------------------------------------------------------------------------------------


def test_a_plain_credential_is_read(book: CredentialBook) -> None:
    text = book.issue(TENANT, CARD, "gold", NOW_MS, NOW_MS, NOW_MS + DAY_MS, 3)
    expected = Presented("static", TENANT, CARD, "gold", 3, 2, NOW_MS, NOW_MS + DAY_MS)
    assert book.read(text, NOW_MS) == expected
    assert book.read(text, 1) == expected, "the clock is the engine's matter"


def test_a_rotating_one_is_read(book: CredentialBook) -> None:
    expected = Presented("rotating", TENANT, CARD, "gold", 3, 2, NOW_MS - 15_000, NOW_MS + 30_000)
    for after_ms in (0, 29_999, 30_000, 500_000):
        assert book.read(rotating(book, serial=3), NOW_MS + after_ms) == expected


def test_a_code_is_not_good_for_longer_than_its_credential(book: CredentialBook) -> None:
    inside = book.read(rotating(book, from_ms=NOW_MS, until_ms=NOW_MS + 1_000), NOW_MS)
    assert inside is not None
    assert (inside.valid_from_ms, inside.valid_until_ms) == (NOW_MS, NOW_MS + 1_000)
    around = book.read(rotating(book, from_ms=NOW_MS - DAY_MS, until_ms=NOW_MS + DAY_MS), NOW_MS)
    assert around is not None
    assert (around.valid_from_ms, around.valid_until_ms) == (NOW_MS - 15_000, NOW_MS + 30_000)


def test_a_code_that_never_was_or_was_long_ago_is_nothing(book: CredentialBook) -> None:
    text = rotating(book)
    wrong = "0" if text[-1] != "0" else "1"
    assert book.read(text, NOW_MS + 11 * 60_000) is None
    for altered in (text[:-1] + wrong, text[:-1], text + wrong, text[:-8], text[:-8] + "        "):
        assert book.read(altered, NOW_MS) is None
    assert book.read(text, NOW_MS) is not None


def test_nothing_of_a_rotating_one_is_good_without_its_code(book: CredentialBook) -> None:
    """Whoever photographs the code has its signed part too."""
    text = rotating(book)
    cut = PREFIX + text.removeprefix(ROTATING_PREFIX)[:-8]
    assert book.read(cut, NOW_MS) is None
    assert book.verify(cut) is None
    assert book.verify(text[:-8]) is None
    assert book.verify(text) is None
    # Nor does a plain one become a rotating one, which a thief could show for ever if they knew how to make codes.
    plain = book.issue(TENANT, CARD, "gold", NOW_MS).removeprefix(PREFIX)
    assert book.read(ROTATING_PREFIX + plain + text[-8:], NOW_MS) is None


def test_the_code_of_another_card_or_serial_is_nothing(book: CredentialBook) -> None:
    text = rotating(book, serial=1)
    for other in ((TENANT, CARD, 0), (TENANT, CARD, 2), (TENANT, "card_2", 1), ("org_2", CARD, 1)):
        assert book.read(text[:-8] + book.codes.code(*other, step_of(NOW_MS)), NOW_MS) is None, other


def test_the_longest_rotating_one_fits_a_scan(book: CredentialBook) -> None:
    tenant_id, card_id = "o" * ID_CHARS_MAX, "c" * ID_CHARS_MAX
    times = (NOW_MS, NOW_MS, NOW_MS + 10**12)
    base = book.issue(tenant_id, card_id, "platinum", *times, CREDENTIAL_SERIAL_MAX, is_rotating=True)
    text = base + book.codes.code(tenant_id, card_id, CREDENTIAL_SERIAL_MAX, step_of(NOW_MS))
    assert len(text) <= CREDENTIAL_CHARS_MAX
    assert book.read(text, NOW_MS) is not None


def test_a_new_code_costs_no_new_signature_check(book: CredentialBook) -> None:
    for after in range(20):
        at_ms = NOW_MS + after * 15_000
        assert book.read(rotating(book, at_ms=at_ms), at_ms) is not None
    assert book._claims.cache_info().currsize == 1  # type: ignore[attr-defined]


# --- tags -------------------------------------------------------------------------------------------------------------


def test_a_tap_is_read_as_text_and_as_url(book: CredentialBook) -> None:
    uid = bytes.fromhex("04DE5F1EACC040")
    keys = TagBook(MASTER).keys(TENANT, uid)
    url = FakeTag(uid, keys.meta_read, keys.file_read, counter=6, file_data=bytes(16)).tap(f"https://h/t/{TENANT}")
    expected = Presented("tag", TENANT, tag_uid="04DE5F1EACC040", tag_counter=7, tag_file_data=bytes(16))
    text = text_of_url(url)
    assert text is not None
    assert book.read(text, NOW_MS) == book.read(url, NOW_MS) == expected
    assert book.verify(text) is None
    assert CredentialBook(b"x" * 32).read(text, NOW_MS) is None


# --- whatever comes ---------------------------------------------------------------------------------------------------


@given(
    st.text(max_size=600)
    | st.tuples(st.sampled_from(["MV1:", "MV1R:", "MV1N:", "https://"]), st.text(max_size=300)).map("".join)
    | st.binary(max_size=250).map(lambda data: ROTATING_PREFIX + b45encode(data) + "12345678")
)
@settings(max_examples=300, deadline=None)
def test_no_text_raises(text: str) -> None:
    assert CredentialBook(MASTER, (1,), 16).read(text, NOW_MS) is None
