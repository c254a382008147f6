"""An organisation as the benchmarks find it: cards, events with two gates, the simple award, three rules of which one
applies to each entry, and two boards in memory. All of it through the partition, as in production, with an append that
is done at once."""

from __future__ import annotations

from itertools import count
from typing import Any
from uuid import UUID

from actors.admin import checkin_rule
from actors.board import board_over
from actors.calendar import local_day
from actors.codec import encode_facts
from actors.commands import CheckIn, check_in_fingerprint
from actors.effects import Append, Deliver
from actors.entry import Entry
from actors.facts import CardIssued, EventCreated, Fact, TenantOpened
from actors.rule_facts import RuleSaved
from actors.terms import EventTerms, Gate, TenantSettings
from actors.windows import ALL_WINDOW, board_key, keys_of_day
from rules.document import parse_rule
from tests.core.build import NOW_MS
from tests.core.drive import Drive

ORG = "org_m8gd3zngjctdjj32vgt7"
EVENTS = 50
TURN = 100
CARDS_PER_ENTRY = 1_000
MARK = b"f" * 8
CONDITIONS = ('card.tier != "none"', 'card.tier == "diamond" && now.weekday == 9', "counts.visits_week == 300")
TIERS: tuple[Any, ...] = ("bronze", "silver", "gold", "platinum")


def card_id(number: int) -> str:
    return f"card_{number:020d}"


def event_id(number: int) -> str:
    return f"evt_{number % EVENTS:020d}"


class Town:
    """`scans` gives check-ins for ever: all cards in, all out, and so on; `take` has the partition judge some."""

    def __init__(self, cards: int) -> None:
        self.cards = cards
        self.now_ms = NOW_MS
        self.entries: list[Entry] = []
        self._numbers = count()
        drive = Drive(cards_resident_max=2 * cards)
        self.partition = drive.partition
        drive.do(self.partition.open(NOW_MS))
        facts: list[Fact] = [
            TenantOpened(ORG, "open", MARK, NOW_MS, "The Continental", TenantSettings(rules=(checkin_rule(10),)))
        ]
        terms = EventTerms(
            "Evening", 10 * cards, gates=(Gate("gate_a", "A"), Gate("gate_b", "B")), reentry="after_exit"
        )
        facts += [EventCreated(ORG, f"event-{n}", MARK, NOW_MS, event_id(n), terms) for n in range(EVENTS)]
        for number, when in enumerate(CONDITIONS):
            told = {"name": "R", "on": "checkin", "when": when, "then": [{"action": "award_points", "points": 5}]}
            rule = parse_rule({**told, "state": "active"}, f"rule_{number:020d}", 1)
            assert not isinstance(rule, tuple), rule
            facts.append(RuleSaved(ORG, f"rule-{number}", MARK, NOW_MS, rule))
        drive.write(encode_facts(facts), 1)
        for first in range(0, cards, CARDS_PER_ENTRY):
            drive.write(encode_facts([_issued(n) for n in range(first, min(cards, first + CARDS_PER_ENTRY))]), 1)
        drive.opened()
        assert self.partition.state == "open", drive.halts
        today = local_day(NOW_MS, "UTC")
        for key in (board_key("points", ALL_WINDOW), keys_of_day("points", today)[0]):
            self.partition._views.add_board(ORG, key, board_over(key, ()), ())
        self._scan = 0

    def scans(self, how_many: int) -> list[CheckIn]:
        """The next check-ins."""
        return [self._next() for _ in range(how_many)]

    def _next(self) -> CheckIn:
        turn, number = divmod(self._scan, self.cards)
        self._scan += 1
        request_id = str(UUID(int=(NOW_MS << 80) | 0x7 << 76 | 0x2 << 62 | next(self._numbers)))
        direction: Any = "exit" if turn % 2 else "entry"
        told = (event_id(number), card_id(number), "gate_a", direction, 0, False, "", False)
        place = (event_id(number), card_id(number), "gate_a", "dev_00000000000000000001", direction)
        return CheckIn(ORG, request_id, check_in_fingerprint(*told), *place)

    def take(self, scans: list[CheckIn]) -> int:
        """One turn, appended and answered. Returns the number of answers."""
        self.now_ms += 5
        partition, answers = self.partition, 0
        effects = partition.receive([((0, index), scan) for index, scan in enumerate(scans)], self.now_ms)
        while effects:
            later = []
            for effect in effects:
                if isinstance(effect, Append):
                    entry = effect.entry
                    self.entries.append(entry)
                    later += partition.on_appended(entry.epoch, entry.seq, entry.seq, self.now_ms)
                elif isinstance(effect, Deliver):
                    answers += len(effect.replies)
            effects = later
        return answers


def _issued(number: int) -> CardIssued:
    names = (card_id(number), f"mem_{number:020d}", "Ann Member", TIERS[number % len(TIERS)])
    return CardIssued(ORG, f"issue-{number}", MARK, NOW_MS, *names)
