"""A card holder's new name: on the card, in verdicts, on boards; history keeps the name of its time."""

from __future__ import annotations

import pytest

from actors.commands import ChangeCardState, RenameCardHolder
from actors.facts import CardHolderRenamed, PointsPosted, ScanJudged
from actors.live import PUBLISH_INTERVAL_MS
from actors.ports import BoardScore
from actors.queries import GetBoard, GetCard, GetTopic
from actors.replies import BoardView, CardView, Done, Failed, TopicView
from tests.core.build import award, card, check_in, signed, tenant
from tests.core.drive import Drive, driven, projected_away


def rename(name: str, request_id: str = "rename", card_id: str = "card", tenant_id: str = "org") -> RenameCardHolder:
    renamed: RenameCardHolder = signed(RenameCardHolder(tenant_id, request_id, b"", card_id, name))
    return renamed


def named(drive: Drive, token: object) -> str:
    view = drive.reply(token)
    assert isinstance(view, CardView)
    return view.member_name


def test_the_next_verdict_has_the_new_name_and_a_retry_changes_nothing() -> None:
    drive = driven()
    drive.send(("a", rename("Ánh")), ("b", check_in()))
    drive.appended()
    done, scanned = drive.reply("a"), drive.reply("b")
    assert isinstance(done.fact, CardHolderRenamed)
    assert (done.fact.card_id, done.fact.member_name) == ("card", "Ánh")
    assert isinstance(scanned.fact, ScanJudged)
    assert scanned.fact.member_name == "Ánh"
    drive.send(("c", rename("Bình", "rename-2")))
    drive.appended()
    drive.send(("d", rename("Ánh")), ("e", GetCard("org", "card")))
    assert (drive.reply("d"), named(drive, "e")) == (Done(done.fact, True, done.position), "Bình")


def test_a_revoked_cards_holder_can_be_renamed() -> None:
    drive = driven()
    drive.send(("a", signed(ChangeCardState("org", "revoke", b"", "card", "revoked"))), ("b", rename("Ánh")))
    drive.appended()
    drive.send(("c", GetCard("org", "card")))
    view = drive.reply("c")
    assert (view.state, view.member_name) == ("revoked", "Ánh")


def test_another_tenants_card_is_as_absent_as_none() -> None:
    drive = driven()
    drive.send(("a", rename("Ánh", tenant_id="other")), ("b", rename("Ánh", card_id="none")))
    drive.loaded()
    drive.appended()
    for token, code in (("a", "tenant_unknown"), ("b", "card_unknown")):
        reply = drive.reply(token)
        assert isinstance(reply, Failed)
        assert reply.code == code


def test_a_name_comes_back_from_the_journal() -> None:
    drive = driven()
    drive.send(("a", rename("Ánh")))
    drive.appended()
    again = Drive()
    again.journal = drive.journal
    again.do(again.partition.open(again.now_ms))
    again.opened()
    again.send(("b", GetCard("org", "card")))
    assert named(again, "b") == "Ánh"


@pytest.mark.parametrize("is_in_tail", [False, True])
def test_a_board_shows_the_new_name_whether_it_was_loaded_before_or_after(is_in_tail: bool) -> None:
    drive = driven()
    drive.send(("w", GetTopic("org", "leaderboard:points")))
    if not is_in_tail:
        drive.loaded(boards={("org", "points/all"): [BoardScore("card", "Ann", 5, 1)]})
    drive.send(("a", award(5, card_id="card2")), ("b", rename("Ánh")), ("c", rename("Bình", "r2", "card2")))
    drive.appended()
    if is_in_tail:
        drive.loaded(boards={("org", "points/all"): [BoardScore("card", "Ann", 5, 1)]})
    drive.send(("d", GetBoard("org", "points", "all")))
    board = drive.reply("d")
    assert isinstance(board, BoardView)
    assert [(row.card_id, row.member_name, row.score) for row in board.rows] == [
        ("card", "Ánh", 5),
        ("card2", "Bình", 5),
    ]
    posted = drive.reply("a").fact
    assert isinstance(posted, PointsPosted)
    assert posted.member_name == "Ann"


def test_watchers_of_a_board_are_told_a_name_and_only_of_their_own_board() -> None:
    drive = driven()
    drive.send(("w", GetTopic("org", "leaderboard:points")))
    drive.loaded(boards={("org", "points/all"): [BoardScore("card", "Ann", 5, 1)]})
    assert isinstance(drive.reply("w"), TopicView)
    drive.send(("a", rename("Ánh", card_id="card2")))
    drive.appended()
    drive.tick(PUBLISH_INTERVAL_MS)
    assert drive.published == [], "the card is not on the board"
    drive.send(("b", rename("Ánh", "r2")))
    drive.appended()
    drive.tick(PUBLISH_INTERVAL_MS)
    (digest,) = drive.published
    assert [row.member_name for row in digest.update.data.rows] == ["Ánh"]


def test_a_rename_waits_for_a_card_that_is_not_in_memory() -> None:
    drive = projected_away()
    drive.send(("a", rename("Ánh")))
    assert ("org", "card") in drive.loads[-1].request.cards
    assert "a" not in drive.replies
    drive.loaded(tenants={"org": tenant()}, cards={("org", "card"): card()}, projected=drive.projected)
    drive.appended()
    assert drive.reply("a").fact.member_name == "Ánh"
