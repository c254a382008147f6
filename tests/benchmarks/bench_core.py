"""The core: a turn of check-ins with everything on but I/O, and what it is made of. A benchmark's unit is told in its
name; a turn is `town.TURN` check-ins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from actors.checkin import decide_check_in
from actors.codec import Answers, decode_answers, decode_messages, encode_answers, encode_fact, encode_messages
from actors.commands import AwardPoints, Command, RedeemPoints
from actors.facts import PointsPosted, ScanJudged
from actors.handlers import handle
from actors.replies import Done
from storage.rows import rows_of
from tests.benchmarks.town import ORG, TURN, Town
from tests.core.build import NOW_MS, award, card, redeem, scope, tenant

Bench = Callable[..., Any]


def test_turn_of_100_check_ins(benchmark: Bench, town: Town) -> None:
    def fresh() -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (town.scans(TURN),), {}

    benchmark.pedantic(town.take, setup=fresh, rounds=400 if town.cards > 1_000 else 3, warmup_rounds=1)


def test_decide_a_check_in(benchmark: Bench, town: Town) -> None:
    scan, residents = town.scans(1)[0], town.partition.residents
    told = (residents.tenants[ORG], residents.cards[scan.card_id], residents.events[scan.event_id])
    facts = benchmark(decide_check_in, *told, scan, town.now_ms)
    assert isinstance(facts[0], ScanJudged)


@pytest.mark.parametrize("command", [award(50), redeem(5)], ids=lambda one: type(one).__name__)
def test_decide_points(benchmark: Bench, command: AwardPoints | RedeemPoints) -> None:
    def decide(command: Command) -> Any:
        return handle(scope(tenant(), card(balance=10)), command, NOW_MS)

    assert isinstance(benchmark(decide, command)[0], PointsPosted)


def test_encode_a_check_ins_facts(benchmark: Bench, town: Town) -> None:
    scan, residents = town.scans(1)[0], town.partition.residents
    told = (residents.tenants[ORG], residents.cards[scan.card_id], residents.events[scan.event_id])
    facts = decide_check_in(*told, scan, town.now_ms)
    benchmark(lambda: [encode_fact(fact) for fact in facts])


def test_100_messages_to_the_host_and_back(benchmark: Bench, town: Town) -> None:
    scans, residents = town.scans(TURN), town.partition.residents
    answers = Answers(
        [
            Done(decide_check_in(residents.tenants[ORG], residents.cards[one.card_id], event, one, town.now_ms)[0])
            for one in scans
            for event in [residents.events[one.event_id]]
        ]
    )

    def both_ways() -> int:
        decode_messages(encode_messages(scans))
        return len(decode_answers(encode_answers(answers)).replies)

    assert benchmark(both_ways) == TURN


def test_rows_of_10_turns(benchmark: Bench, town: Town) -> None:
    while len(town.entries) < 10:
        town.take(town.scans(TURN))
    batch = benchmark(rows_of, 0, town.entries[:10])
    assert len(batch.scans) == 10 * TURN
