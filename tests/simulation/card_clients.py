"""What clients ask about a card's life: new credentials, validity, tiers, NFC tags; and how they scan with them."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec

from actors.board_commands import PayOutBoard
from actors.card_commands import AssignTag, ReissueCard, RemoveTag, RenewCard, SetCardTier
from actors.commands import CheckIn, Command
from actors.schedule import Schedule
from actors.terms import BoardTerms, TierLevel, TierTerms

Head = tuple[str, str, bytes]
LEVELS = (TierLevel("bronze", 0), TierLevel("silver", 20), TierLevel("gold", 45, "Sun"), TierLevel("platinum", 90))
TAGS = ("04A1", "04A2", "04A3")


def about_card(rng: Random, now_ms: int, head: Head, card_id: str) -> Command:
    """Something about a card."""
    dice = rng.random()
    if dice < 0.25:
        return ReissueCard(*head, card_id)
    if dice < 0.4:
        return RenewCard(*head, card_id, rng.choice((0, 0, now_ms + 100)), rng.choice((0, 0, now_ms + 800, now_ms - 5)))
    if dice < 0.65:
        until = rng.choice((0, now_ms + rng.choice((-5, 60, 400, 1_500, 4_000))))
        return SetCardTier(*head, card_id, rng.choice(("bronze", "bronze", "gold", "diamond")), "", until)
    if dice < 0.85:
        return AssignTag(*head, card_id, rng.choice(TAGS))
    return RemoveTag(*head, card_id)


def some_tiers(rng: Random) -> TierTerms | None:
    """How an organisation's cards come into tiers: mostly by points. Their reviews fall into most runs: the 21st begins
    soon after the start, in one time zone or the other."""
    levels = rng.choice((LEVELS, LEVELS, LEVELS[:2], (LEVELS[0], LEVELS[3])))
    monthly, yearly = Schedule(0, 0, month_days=rng.choice(((21,), (1, 21)))), Schedule(0, 0, month=1, day=1)
    review = rng.choice((monthly, monthly, yearly))
    made = TierTerms(levels, rng.choice((1, 1, 2, 365)), rng.choice(("keep", "one_down", "by_points")), review)
    return rng.choice((None, made, made, made, msgspec.structs.replace(made, levels=LEVELS[1:])))


def some_boards(rng: Random) -> tuple[BoardTerms, ...]:
    """An organisation's own leaderboards."""
    regulars, rising = BoardTerms("regulars", "visits", True), BoardTerms("rising", "points", True)
    return rng.choice(((), (regulars,), (regulars, rising), (rising,)))


def some_grace(rng: Random) -> int:
    """For how long after their end windows still take what is told late, in milliseconds."""
    return rng.choice((0, 200, 1_500, 48 * 3_600_000))


def some_payout(rng: Random, head: Head, event_id: str) -> Command:
    """A board is to be paid out, mostly over a day that is over soon after the start."""
    window = rng.choice(("day:20260520",) * 6 + ("day:20260521", f"event:{event_id}", f"event:{event_id}"))
    board = rng.choice(("points", "points", "visits", "streak", "regulars", "rising"))
    return PayOutBoard(*head, board, window, rng.choice(((5, 3), (4,), (2, 2, 2), ())))


def presented(rng: Random, command: CheckIn, serials: dict[str, int], counters: dict[str, int]) -> CheckIn:
    """The scan with what was held before the scanner: mostly the credential that this client knows of, now and then an
    older one or a tag's tap. `counters` are those that this client has seen of the tags."""
    if rng.random() < 0.15:
        uid = rng.choice(TAGS)
        counter = counters[uid] = max(1, counters.get(uid, 0) + rng.choice((1, 1, 1, 2, 0, -1)))
        return msgspec.structs.replace(command, card_id="", tag_uid=uid, tag_counter=counter, valid_until_ms=0)
    serial = serials.get(command.card_id, 0)
    return msgspec.structs.replace(command, serial=max(0, serial - (rng.random() < 0.1)))


def learn(reply_fact: Any, serials: dict[str, int], counters: dict[str, int]) -> None:
    """What an answer tells a client for its next scans."""
    if type(reply_fact).__name__ == "CardReissued":
        serials[reply_fact.card_id] = max(serials.get(reply_fact.card_id, 0), reply_fact.serial)
    elif type(reply_fact).__name__ == "ScanJudged" and reply_fact.details is not None and reply_fact.details.tag_uid:
        uid = reply_fact.details.tag_uid
        counters[uid] = max(counters.get(uid, 0), reply_fact.details.tag_counter)
