"""What is known not to hold yet. Each test fails as long as the gap is there, and says so when it is closed."""

from __future__ import annotations

import pytest

from actors.entry import Mark
from tests.core.build import NOW_MS, award, card, tenant
from tests.core.drive import projected_away


@pytest.mark.xfail(strict=True, reason="nothing durable tells that ids from clocks ahead were decided")
def test_an_id_from_a_clock_far_ahead_has_one_effect_across_a_reopening() -> None:
    """A client whose clock is a minute ahead sends a UUIDv7; it is looked up and decided. The partition is opened anew,
    with all of it projected. The client comes back with the same id when its time has come: memory takes it for new,
    for it is younger than everything that memory lacks was *decided* at. See the request memory's docstring."""
    made = f"{NOW_MS + 60_000:012x}"
    ahead = f"{made[:8]}-{made[8:]}-7000-8000-000000000001"
    drive = projected_away()
    drive.send(("first", award(5, ahead)))
    drive.loaded(tenants={"org": tenant()}, cards={("org", "card"): card()})
    drive.appended()
    assert drive.reply("first").replayed is False
    last = drive.journal[-1]
    drive.projected = Mark(last.epoch, last.seq, last.checksum)
    drive.do(drive.partition.close(drive.now_ms))
    drive.do(drive.partition.open(drive.now_ms))
    drive.opened()
    drive.now_ms = NOW_MS + 60_000
    drive.send(("again", award(5, ahead)))
    drive.loaded(tenants={"org": tenant()}, cards={("org", "card"): card(balance=5, entry_count=1)})
    assert drive.appends == [], "a second effect"
