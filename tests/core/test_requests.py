"""Remembering request ids: an id's age, what may be forgotten, and when memory alone can tell that an id is new."""

from __future__ import annotations

import pytest

from actors.facts import CommandRefused
from actors.ids import RETENTION_MS, claimed_ahead_ms, uuid7_time_ms
from actors.limits import Limits
from actors.requests import RequestMemory
from tests.core.build import NOW_MS

LIMITS = Limits(requests_remembered_max=2, memory_ms_min=20_000, clock_ahead_ms_max=1_000)
FORGOTTEN_MS = NOW_MS - 60_000


def uuid7(made_ms: int, tail: str = "0") -> str:
    text = f"{made_ms:012x}"
    return f"{text[:8]}-{text[8:]}-7000-8000-00000000000{tail}"


def memory(*, is_complete: bool = False, claims: dict[str, int] | None = None) -> RequestMemory:
    return RequestMemory(LIMITS, is_complete=is_complete, forgotten_until_ms=FORGOTTEN_MS, claims=claims or {})


def remember(requests: RequestMemory, request_id: str, position: int, at_ms: int) -> None:
    fact = CommandRefused("org", request_id, b"", at_ms, "AwardPoints", "card", "amount_invalid", "")
    requests.remember(("org", request_id), fact, position)


@pytest.mark.parametrize(
    ("request_id", "made_ms"),
    [
        ("017f22e2-79b0-7cc3-98c4-dc0c0c07398f", 0x017F22E279B0),  # RFC 9562, appendix A.6
        ("017F22E2-79B0-7CC3-98C4-DC0C0C07398F", 0x017F22E279B0),
        ("017f22e2-79b0-4cc3-98c4-dc0c0c07398f", None),
        ("017f22e279b07cc398c4dc0c0c07398f", None),
        ("017f22e2-79bx-7cc3-98c4-dc0c0c07398f", None),
        ("scan-1", None),
        ("", None),
    ],
)
def test_the_time_in_a_uuid7(request_id: str, made_ms: int | None) -> None:
    assert uuid7_time_ms(request_id) == made_ms


@pytest.mark.parametrize(
    ("request_id", "is_new"),
    [
        (uuid7(NOW_MS), True),
        (uuid7(NOW_MS + 1_000), True),
        (uuid7(NOW_MS + 1_001), False),
        (uuid7(FORGOTTEN_MS + 1_001), True),
        (uuid7(FORGOTTEN_MS + 1_000), False),
        (uuid7(FORGOTTEN_MS - 1), False),
        ("scan-1", False),
    ],
)
def test_what_is_certainly_new(request_id: str, is_new: bool) -> None:
    assert memory().is_certainly_new(("org", request_id), NOW_MS) is is_new
    assert memory(is_complete=True).is_certainly_new(("org", request_id), NOW_MS)


def test_only_the_oldest_over_the_limit_and_projected_and_old_are_forgotten() -> None:
    requests = memory(is_complete=True)
    for number in range(4):
        remember(requests, f"id-{number}", number + 1, NOW_MS + number)
    later_ms = NOW_MS + 20_000
    requests.forget(0, later_ms + 9)
    assert len(requests) == 4, "not projected"
    requests.forget(9, later_ms - 1)
    assert len(requests) == 4, "too young: a look-up under way may have missed them"
    requests.forget(1, later_ms + 9)
    assert len(requests) == 3
    requests.forget(9, later_ms + 9)
    assert len(requests) == 2, "what is within the limit stays"
    assert requests.get(("org", "id-1")) is None
    assert requests.get(("org", "id-2")) is not None


def test_after_forgetting_memory_is_complete_no_more() -> None:
    requests = memory(is_complete=True)
    for number in range(3):
        remember(requests, f"id-{number}", number + 1, NOW_MS)
    now_ms = NOW_MS + 20_000
    assert requests.is_certainly_new(("org", "other"), now_ms)
    requests.forget(9, now_ms)
    assert not requests.is_certainly_new(("org", "other"), now_ms)
    assert not requests.is_certainly_new(("org", uuid7(NOW_MS + 1_000)), now_ms)
    assert requests.is_certainly_new(("org", uuid7(NOW_MS + 1_001)), now_ms)


def test_an_id_from_a_clock_ahead_is_looked_up_when_its_time_has_come() -> None:
    requests = memory(is_complete=True)
    ahead = uuid7(NOW_MS + 3_600_000)
    remember(requests, ahead, 1, NOW_MS)
    for number in range(2):
        remember(requests, f"id-{number}", number + 2, NOW_MS)
    requests.forget(9, NOW_MS + 20_000)
    assert requests.get(("org", ahead)) is None
    assert not requests.is_certainly_new(("org", ahead), NOW_MS + 3_600_000)


def test_one_effect_per_id() -> None:
    requests = memory()
    remember(requests, "id", 1, NOW_MS)
    with pytest.raises(AssertionError, match="exactly one effect"):
        remember(requests, "id", 2, NOW_MS)


def test_within_a_tenants_claim_every_id_is_looked_up_and_other_tenants_do_not_pay_for_it() -> None:
    requests = memory(claims={"org": NOW_MS + 500})
    assert not requests.is_certainly_new(("org", uuid7(NOW_MS + 500)), NOW_MS)
    assert requests.is_certainly_new(("org", uuid7(NOW_MS + 501)), NOW_MS)
    assert requests.is_certainly_new(("other", uuid7(NOW_MS)), NOW_MS)


@pytest.mark.parametrize(
    ("made_ms", "claim_ms"),
    [
        (NOW_MS + 1_000, 0),
        (NOW_MS + 1_001, NOW_MS + 1_001),
        (NOW_MS + RETENTION_MS, NOW_MS + RETENTION_MS),
        (NOW_MS + RETENTION_MS + 1, 0),
    ],
)
def test_what_an_id_claims(made_ms: int, claim_ms: int) -> None:
    assert claimed_ahead_ms(uuid7(made_ms), NOW_MS, 1_000) == claim_ms
