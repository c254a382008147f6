"""NTAG 424 DNA: NXP's numbers, a tag that keeps to them, and what is no tap of ours."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import tags
from gateway.limits import CREDENTIAL_CHARS_MAX, ID_CHARS_MAX, TAG_FILE_BYTES_MAX
from gateway.tags import TagBook, TagMessage, TagReading, aes_cmac, parse, read, text_of_url
from tests.support.fake_tag import FakeTag

MASTER = bytes(range(32))
TENANT = "org_01k3zq8w5x4v7m9n2p6r"
ADDRESS = f"https://vip.example.com/t/{TENANT}"
UID = bytes.fromhex("04DE5F1EACC040")
ZERO = bytes(16)
PICC, MAC, ENC = "0" * 32, "1" * 16, "2" * 32


@pytest.fixture
def book() -> TagBook:
    return TagBook(MASTER)


def tag_of(book: TagBook, tenant_id: str = TENANT, uid: bytes = UID, **more: object) -> FakeTag:
    keys = book.keys(tenant_id, uid)
    return FakeTag(uid, keys.meta_read, keys.file_read, **more)  # type: ignore[arg-type]


def tapped(book: TagBook, url: str) -> TagReading | None:
    """What a scan of the URL is taken for."""
    text = text_of_url(url)
    message = parse(text) if text else None
    return book.read(message) if message else None


# --- AN12196, as published --------------------------------------------------------------------------------------------


def test_encrypted_picc_data() -> None:
    """`sdm1`: the tap, and the steps on the way."""
    picc, mac = "EF963FF7828658A599F3041510671E88", "94EED9EE65337086"
    assert tags._cbc_decrypt(ZERO, ZERO, bytes.fromhex(picc)).hex().upper() == "C704DE5F1EACC0403D0000DA5CF60941"
    session = aes_cmac(ZERO, bytes.fromhex("3CC30001008004DE5F1EACC0403D0000"))
    assert session.hex().upper() == "3FB5F6E3A807A03D5E3570ACE393776F"
    assert aes_cmac(session, b"").hex().upper() == "E194C7EE12D9F7EE8A65C8331B704386"
    assert read(picc, mac, "", ZERO, lambda _: ZERO) == TagReading("04DE5F1EACC040", 61)


def test_encrypted_file_data() -> None:
    """`sdm2`: the CMAC covers the data and the parameter's name behind it."""
    picc, enc = "FD91EC264309878BE6345CBE53BADF40", "CEE9A53E3E463EF1F459635736738962"
    mirrored = bytes.fromhex("04958CAA5C5E80080000")
    assert aes_cmac(ZERO, tags._SV1 + mirrored).hex().upper() == "42132D669442AD43E072C8C0C9828A72"
    session = aes_cmac(ZERO, tags._SV2 + mirrored)
    assert session.hex().upper() == "3ED0920E5E6A0320D823D5987FEAFBB1"
    assert aes_cmac(session, f"{enc}&cmac=".encode()).hex().upper() == "81EC45C175E72FF6FAC61BC7AB3BAEF6"
    reading = read(picc, "ECC1E7F6C6C73BF6", enc, ZERO, lambda _: ZERO, "&cmac=")
    assert reading == TagReading("04958CAA5C5E80", 8, b"xxxxxxxxxxxxxxxx")


def test_plain_mirroring() -> None:
    """`sdm3`: the URL has the counter big-endian, the CMAC is over it little-endian."""
    assert read("041E3C8A2D6B80000006", "4B00064004B0B3D3", "", ZERO, lambda _: ZERO) == TagReading("041E3C8A2D6B80", 6)
    assert read("041E3C8A2D6B80060000", "4B00064004B0B3D3", "", ZERO, lambda _: ZERO) is None


def test_other_keys_than_the_factorys() -> None:
    """`sdm4`: each of the two keys has its part, and the CMAC may cover the data alone."""
    meta, file = bytes.fromhex("42aff114f2cb3b6141be6dc95dfc5416"), bytes.fromhex("b62a9baf092439bd43c62aee96b970c5")
    tap = ("8ACADDEF0A9B62CDAE39A16B83FC14DE", "238B2543A8DEBAD8", "B8436E11F627BB7F543FCC0C1E0D1A89")
    assert read(*tap, meta, lambda _: file, "") == TagReading("041D3C8A2D6B80", 291, b"NTXXqno_oBFpwy-V")
    assert read(*tap, meta, lambda _: file) is None
    assert read(*tap, meta, lambda _: meta, "") is None
    assert read(*tap, file, lambda _: file, "") is None


def test_a_cmac_over_more_than_a_block() -> None:
    """`sdm.div`: another system's way to keys of a slot. Not ours (rule 4), but its CMAC is over 17 bytes."""
    master, uid = bytes.fromhex("C9EB67DF090AFF47C3B19A2516680B9D"), bytes.fromhex("010203040506AB")

    def digest(key: bytes, data: bytes) -> bytes:
        return hmac.digest(key, data, hashlib.sha256)

    assert digest(master, b"PICCDataKey")[:16].hex() == "a13086f194d7bdfd108dd11716ea2bdf"
    slot = digest(master, b"SlotMasterKey\x01")[:16]
    tag = digest(digest(master, b"DivBaseKey"), uid)[:16]
    assert aes_cmac(slot, b"\x01" + tag).hex() == "f18cdd9389d47ae7ab381e80e5ab6fe3"


def test_lrp_is_refused() -> None:
    picc, enc = "07D9CA2545881D4BFDD920BE1603268C0714420DD893A497", "D6E921C47DB4C17C56F979F81559BB83"
    assert parse(f"MV1N:{TENANT}:{picc}:F9481AC7D855BDB6:{enc}") is None


# --- our tags ---------------------------------------------------------------------------------------------------------


@given(
    uid=st.binary(min_size=7, max_size=7),
    counter=st.integers(0, 2**24 - 2),
    padding=st.binary(min_size=5, max_size=5),
    file_data=st.sampled_from([b"", b"sixteen bytes !!", bytes(64)]),
    is_plain=st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_a_tap_is_read(uid: bytes, counter: int, padding: bytes, file_data: bytes, is_plain: bool) -> None:
    book = TagBook(MASTER)
    data = b"" if is_plain else file_data
    tag = tag_of(
        book,
        uid=uid,
        counter=counter,
        random_bytes=lambda count: padding[:count],
        file_data=data,
        is_plain=is_plain,
    )
    assert tapped(book, tag.tap(ADDRESS)) == TagReading(uid.hex().upper(), counter + 1, data or None)


def test_each_tap_counts(book: TagBook) -> None:
    tag = tag_of(book)
    urls = [tag.tap(ADDRESS) for _ in range(3)]
    assert len(set(urls)) == 3
    readings = [tapped(book, url) for url in urls]
    assert [reading.counter for reading in readings if reading] == [1, 2, 3]


def test_the_text_of_a_tap(book: TagBook) -> None:
    url = tag_of(book, file_data=bytes(16)).tap(ADDRESS)
    picc, enc, mac = url.split("?e=")[1].replace("&d=", " ").replace("&c=", " ").split()
    text = f"MV1N:{TENANT}:{picc}:{mac}:{enc}"
    assert text_of_url(url) == text
    assert parse(text) == TagMessage(TENANT, picc, mac, enc)
    short = tag_of(book).tap(ADDRESS)
    assert parse(str(text_of_url(short))) == TagMessage(TENANT, *short.split("?e=")[1].split("&c="))


def test_the_longest_text_of_a_tap_fits_a_scan() -> None:
    longest = f"MV1N:{'o' * ID_CHARS_MAX}:{PICC}:{MAC}:{'2' * 2 * TAG_FILE_BYTES_MAX}"
    assert parse(longest) is not None
    assert len(longest) <= CREDENTIAL_CHARS_MAX


def test_keys_are_the_tenants_and_the_tags(book: TagBook) -> None:
    one, other, foreign = book.keys("org_1", UID), book.keys("org_1", bytes(7)), book.keys("org_2", UID)
    assert (len(one.meta_read), len(one.file_read)) == (16, 16)
    assert one.meta_read == other.meta_read, "it opens what tells the UID"
    assert len({one.meta_read, one.file_read, other.file_read, foreign.meta_read, foreign.file_read}) == 5
    assert TagBook(b"x" * 32).keys("org_1", UID).file_read != one.file_read
    for uid in (b"", bytes(6), bytes(8)):
        with pytest.raises(ValueError, match="7 bytes"):
            book.keys("org_1", uid)


def test_keys_stay(book: TagBook) -> None:
    """They are in tags out there."""
    keys = book.keys(TENANT, UID)
    assert (keys.meta_read.hex(), keys.file_read.hex()) == (
        "0cafd544ba9e2278718b20e105277e9f",
        "5de3c5c4c358a7d2c36afdb835b9c3bd",
    )


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_plain", [False, True])
def test_every_altered_digit_is_refused(book: TagBook, is_plain: bool) -> None:
    data = b"" if is_plain else b"sixteen bytes !!"
    text = text_of_url(tag_of(book, file_data=data, is_plain=is_plain).tap(ADDRESS))
    assert text is not None
    begin = len(f"MV1N:{TENANT}:")
    for at in range(begin, len(text)):
        if text[at] != ":":
            altered = parse(text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1 :])
            assert altered is not None
            assert book.read(altered) is None, at


def test_the_tap_of_another_tenants_tag_is_refused(book: TagBook) -> None:
    assert tapped(book, tag_of(book, "org_2").tap(ADDRESS)) is None
    assert tapped(book, tag_of(book, "org_2", is_plain=True).tap(ADDRESS)) is None
    assert tapped(book, FakeTag(UID, ZERO, ZERO).tap(ADDRESS)) is None, "a tag as it comes from the factory"


def test_one_tags_key_makes_no_tap_of_another(book: TagBook) -> None:
    stolen = book.keys(TENANT, UID)
    assert tapped(book, FakeTag(bytes(7), stolen.meta_read, stolen.file_read).tap(ADDRESS)) is None


@pytest.mark.parametrize("tag", [0x87, 0x47, 0xC4, 0xCA, 0x00, 0xFF])
def test_picc_data_that_mirrors_something_else_is_refused(tag: int) -> None:
    """Without UID, without counter, or with a UID of another length, though the CMAC fits what stands there."""
    uid, counter = UID, bytes(3)
    encryptor = Cipher(AES(ZERO), CBC(ZERO)).encryptor()
    picc = encryptor.update(bytes([tag]) + uid + counter + bytes(5)).hex().upper()
    mac = aes_cmac(aes_cmac(ZERO, tags._SV2 + uid + counter), b"")[1::2].hex().upper()
    assert read(picc, mac, "", ZERO, lambda _: ZERO) is None


def test_file_data_cannot_be_left_out_or_put_on(book: TagBook) -> None:
    message = parse(str(text_of_url(tag_of(book, file_data=bytes(16)).tap(ADDRESS))))
    assert message is not None
    assert book.read(TagMessage(TENANT, message.picc, message.mac)) is None
    bare = parse(str(text_of_url(tag_of(book).tap(ADDRESS))))
    assert bare is not None
    assert book.read(TagMessage(TENANT, bare.picc, bare.mac, message.enc)) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "MV1N:",
        f"MV1N:{TENANT}:{PICC}",
        f"MV1N:{TENANT}:{PICC}:{MAC}:",
        f"MV1N:{TENANT}:{PICC}:{MAC}:{ENC}:{ENC}",
        f"MV1N::{PICC}:{MAC}",
        f"MV1N:a b:{PICC}:{MAC}",
        f"MV1N:{'a' * 65}:{PICC}:{MAC}",
        f"MV1N:{TENANT}:{PICC[1:]}:{MAC}",
        f"MV1N:{TENANT}:{PICC}0:{MAC}",
        f"MV1N:{TENANT}:{PICC}:{MAC}0",
        f"MV1N:{TENANT}:{PICC}:{MAC[1:]}",
        f"MV1N:{TENANT}:{PICC}:{MAC}:{ENC[2:]}",
        f"MV1N:{TENANT}:{PICC}:{MAC}:{ENC * 5}",
        f"MV1N:{TENANT}:{PICC[:20]}:{MAC}:{ENC}",
        f"MV1N:{TENANT}:{'a' * 32}:{MAC}",
        f"MV1N:{TENANT}:{'G' * 32}:{MAC}",
        f"MV1N:{TENANT}:{'٣' * 32}:{MAC}",
        f"MV1N:{TENANT}:{PICC}:{MAC}\n",
        f" MV1N:{TENANT}:{PICC}:{MAC}",
        f"mv1n:{TENANT}:{PICC}:{MAC}",
        f"MV1:{TENANT}:{PICC}:{MAC}",
    ],
)
def test_what_is_no_tap(text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize(
    "url",
    [
        f"http://h/t/o?e={PICC}&c={MAC}",
        f"https://h/t/o?e={PICC}&c={MAC}&d={ENC}",
        f"https://h/t/o?c={MAC}&e={PICC}",
        f"https://h/t/o?e={PICC}&e={PICC}&c={MAC}",
        f"https://h/t/o?e={PICC}&c={MAC}&x=1",
        f"https://h/t/o?e={PICC}&c={MAC}#x",
        f"https://h/t/o?e={PICC}&c={MAC}\n",
        f"https://h/t/o/p?e={PICC}&c={MAC}",
        f"https://h/x/t/o?e={PICC}&c={MAC}",
        f"https:///t/o?e={PICC}&c={MAC}",
        f"https://h/t/?e={PICC}&c={MAC}",
        f"https://h/t/a:b?e={PICC}&c={MAC}",
        f"https://h/t/o?e={PICC[2:]}&c={MAC}",
        f"https://{'h' * 500}/t/o?e={PICC}&c={MAC}",
    ],
)
def test_what_is_no_url_of_a_tag(url: str) -> None:
    assert text_of_url(url) is None
    assert text_of_url(f"https://h/t/o?e={PICC}&c={MAC}") == f"MV1N:o:{PICC}:{MAC}"


@given(st.text(max_size=200) | st.from_regex(r"\AMV1N:o:[0-9A-F]{32}:[0-9A-F]{16}(:[0-9A-F]{32})?\Z"))
@settings(max_examples=200, deadline=None)
def test_no_text_raises(text: str) -> None:
    message = parse(text)
    assert message is None or TagBook(MASTER).read(message) is None
    assert text_of_url(text) is None
