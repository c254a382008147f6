"""Paying a board out through a partition: it waits for what is being written, pays once, and answers a repeat alike."""

from __future__ import annotations

from actors.board_commands import PayOutBoard
from actors.board_facts import BoardPaidOut, Winner
from actors.codec import decode_facts
from actors.facts import CommandRefused, PointsPosted
from actors.replies import Done
from tests.core.build import award, signed
from tests.core.drive import Drive, driven

DAY_MS = 86_400_000


def pay(request_id: str = "pay", window: str = "day:20270115", prizes: tuple[int, ...] = (50, 20)) -> PayOutBoard:
    made: PayOutBoard = signed(PayOutBoard("org", request_id, b"", "points", window, prizes))
    return made


def loaded_as_wanted(drive: Drive) -> None:
    """Answers loads with what Postgres holds: no pay-out, and boards without scores."""
    told = 0
    while told < len(drive.loads):
        told = len(drive.loads)
        drive.loaded(boards={key: [] for key in drive.loads[-1].request.boards})


def paid(drive: Drive, token: str) -> BoardPaidOut:
    reply = drive.reply(token)
    assert isinstance(reply, Done)
    assert isinstance(reply.fact, BoardPaidOut)
    return reply.fact


def test_what_is_being_written_is_on_the_board_that_is_paid() -> None:
    drive = driven()
    drive.send(("a", award(5)), ("b", award(7, "award2", "card2")))
    drive.tick(4 * DAY_MS)
    drive.send(("p", pay()))
    loaded_as_wanted(drive)
    drive.tick(25)
    assert "p" not in drive.replies, "an award of that day is not durable yet"
    drive.appended()
    drive.tick(25)
    drive.appended()
    assert paid(drive, "p").winners == (Winner(1, "card2", 7, 50), Winner(2, "card", 5, 20))
    facts = decode_facts(drive.journal[-1])
    posted = [fact for fact in facts if isinstance(fact, PointsPosted)]
    assert [(one.card_id, one.amount, one.cause) for one in posted] == [
        ("card2", 50, "payout:org/payout/points/day:20270115"),
        ("card", 20, "payout:org/payout/points/day:20270115"),
    ]
    assert posted[0].day == 20270119, "earned on the day on which it is paid"
    assert posted[1].contra_after == posted[0].contra_after - 20  # type: ignore[operator]


def test_it_is_paid_once_and_a_repeat_is_told_the_same() -> None:
    drive = driven()
    drive.send(("a", award(5)))
    drive.appended()
    drive.tick(4 * DAY_MS)
    drive.send(("p", pay()), ("q", pay("other")))
    loaded_as_wanted(drive)
    drive.tick(25)
    drive.appended()
    first = paid(drive, "p")
    refused = drive.reply("q").fact
    assert isinstance(refused, CommandRefused)
    assert refused.reason == "already_paid_out"
    drive.send(("again", pay()))
    assert drive.reply("again").fact == first


def test_a_window_that_is_not_frozen_is_refused_at_once() -> None:
    drive = driven()
    drive.send(("p", pay()))
    drive.appended()
    assert (drive.reply("p").fact.reason, drive.loads) == ("window_open", [])
    assert drive.reply("p").fact.detail == "the window is frozen from 2027-01-18T00:00:00+00:00 on"
