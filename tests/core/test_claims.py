"""A client whose clock is far ahead: its ids have one effect, also when their time comes after a reopening."""

from __future__ import annotations

from actors.entry import Mark
from tests.core.build import NOW_MS, award, card, tenant
from tests.core.drive import Drive, projected_away

AHEAD_MS = 60_000


def comes_again_after_a_reopening(claims: dict[str, int]) -> Drive:
    """An id from a clock a minute ahead is looked up and decided; the partition is opened anew with all of it
    projected; the id comes again when its time has come."""
    made = f"{NOW_MS + AHEAD_MS:012x}"
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
    drive.claims = claims
    drive.opened()
    drive.now_ms = NOW_MS + AHEAD_MS
    drive.send(("again", award(5, ahead)))
    return drive


def test_within_its_tenants_claim_the_id_is_looked_up() -> None:
    drive = comes_again_after_a_reopening({"org": NOW_MS + AHEAD_MS})
    assert drive.loads[-1].request.requests != ()


def test_without_the_claim_it_would_be_taken_for_new() -> None:
    """Why the claim is kept: memory alone cannot tell."""
    drive = comes_again_after_a_reopening({})
    assert drive.loads[-1].request.requests == ()
