"""Codes that change: the standards' numbers, the window, and what is told from a code that never was."""

from __future__ import annotations

import pytest

from gateway.limits import ROTATING_STEP_MS, ROTATING_STEPS_AHEAD_MAX, ROTATING_STEPS_BACK_MAX
from gateway.rotating import RotatingCodes, hotp, step_of

MASTER = bytes(range(32))
CARD = ("org_1", "card_1", 0)
AT_MS = 1_767_225_600_000
STEP = AT_MS // ROTATING_STEP_MS


@pytest.fixture
def codes() -> RotatingCodes:
    return RotatingCodes(MASTER)


def test_hotp_vectors() -> None:
    """RFC 4226, appendix D."""
    codes = [hotp(b"12345678901234567890", counter, 6, "sha1") for counter in range(10)]
    assert codes == [
        "755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("at_s", "sha1", "sha256", "sha512"),
    [
        (59, "94287082", "46119246", "90693936"),
        (1_111_111_109, "07081804", "68084774", "25091201"),
        (1_111_111_111, "14050471", "67062674", "99943326"),
        (1_234_567_890, "89005924", "91819424", "93441116"),
        (2_000_000_000, "69279037", "90698825", "38618901"),
        (20_000_000_000, "65353130", "77737706", "47863826"),
    ],
)
def test_totp_vectors(at_s: int, sha1: str, sha256: str, sha512: str) -> None:
    """RFC 6238, appendix B: steps of 30 seconds, and a key as long as the hash."""
    key = b"1234567890" * 7
    step = at_s // 30
    assert hotp(key[:20], step, algorithm="sha1") == sha1
    assert hotp(key[:32], step) == sha256
    assert hotp(key[:64], step, algorithm="sha512") == sha512


def test_a_step_is_fifteen_seconds() -> None:
    assert [step_of(AT_MS + after) - STEP for after in (0, 14_999, 15_000, 29_999, 30_000)] == [0, 0, 1, 1, 2]


def test_a_code_holds_from_the_step_before_its_own_until_the_step_after_ends(codes: RotatingCodes) -> None:
    code = codes.code(*CARD, STEP)
    assert (len(code), code.isdecimal()) == (8, True)
    interval = (AT_MS - 15_000, AT_MS + 30_000)
    assert codes.valid_ms(*CARD, code, AT_MS) == interval
    for at_ms in (AT_MS - 15_000, AT_MS + 29_999, AT_MS + 30_000, AT_MS + 300_000):
        assert codes.valid_ms(*CARD, code, at_ms) == interval, "whenever it is looked at"


def test_a_code_of_long_ago_or_of_later_counts_as_made_up(codes: RotatingCodes) -> None:
    back, ahead = ROTATING_STEPS_BACK_MAX, ROTATING_STEPS_AHEAD_MAX
    known = {
        after
        for after in range(-back - 5, ahead + 6)
        if codes.valid_ms(*CARD, codes.code(*CARD, STEP + after), AT_MS) is not None
    }
    assert known == set(range(-back, ahead + 1))
    assert back * ROTATING_STEP_MS == 600_000


def test_a_code_is_its_cards_its_serials_and_its_tenants(codes: RotatingCodes) -> None:
    code = codes.code("org_1", "card_1", 1, STEP)
    for other in (("org_2", "card_1", 1), ("org_1", "card_2", 1), ("org_1", "card_1", 2), ("org_1", "card_1", 0)):
        assert codes.valid_ms(*other, code, AT_MS) is None, other
    assert RotatingCodes(b"x" * 32).valid_ms("org_1", "card_1", 1, code, AT_MS) is None
    assert codes.valid_ms("org_1", "card_1", 1, code, AT_MS) is not None


@pytest.mark.parametrize("wrong", ["", "1234567", "123456789", "é2345678", "        ", "\ud8002345678"])
def test_what_is_no_code_is_none(codes: RotatingCodes, wrong: str) -> None:
    assert codes.valid_ms(*CARD, wrong, AT_MS) is None


def test_released_codes_stay(codes: RotatingCodes) -> None:
    """A phone that holds codes of an hour must not find them changed by an update of ours."""
    assert [codes.code(*CARD, STEP + after) for after in (0, 1)] == ["18308322", "28695858"]


def test_times_before_there_were_steps(codes: RotatingCodes) -> None:
    assert codes.valid_ms(*CARD, codes.code(*CARD, 0), 1) == (-15_000, 30_000)
