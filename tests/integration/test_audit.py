"""The auditor itself: clean on a real history, and each planted fault is reported by the check that is there for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import asyncpg
import msgspec
import pytest
from redis.asyncio import Redis

from actors.board_facts import BoardPaidOut, Winner
from actors.card_facts import CardReissued, CardTierChanged, TagAssigned
from actors.codec import decode_facts, encode_facts
from actors.entry import Entry, sealed
from actors.facts import CardIssued, CardStateChanged, Fact, PointsPosted, ScanJudged
from actors.member_facts import CardHolderDescribed
from actors.rule_facts import EffectRequested, RuleDeleted, RuleFailure, RulesApplied, RuleUnitsReturned
from actors.schedule_facts import RuleDue, Schedules, SchedulesMoved
from actors.terms import FAR_MS, EarnedDay
from gateway.render import verdict_frame
from serve.audit import outcome_of
from storage.acks import AckBook, canonical
from storage.audit import CHECKS
from storage.postgres import reader_pool
from tests.support.audit_faults import PLANTED, FrozenLive, Plant, System, halt_the_partition
from tests.support.coupon_faults import WRONG_COUPON_FACTS
from tests.support.databases import drop_database, temporary_database
from tests.support.small_history import (
    FIRST,
    OTHER_TAG,
    SECOND,
    TAG,
    THIRD,
    TIERS_NOTE,
    History,
    kept_keys,
    make_history,
    restore,
)

REDIS_DATABASE = 9


@dataclass
class Base:
    """The history, and what each test gets a copy of."""

    history: History
    template: str
    redis_url: str
    redis_keys: dict[bytes, bytes]


@pytest.fixture(scope="module")
def base(postgres_url: str, redis_url: str) -> Iterator[Base]:
    """The history, made once."""
    template = f"audit_{uuid4().hex}"
    server = postgres_url.rpartition("/")[0]
    own_redis = f"{redis_url.rpartition('/')[0]}/{REDIS_DATABASE}"

    async def make() -> tuple[History, dict[bytes, bytes]]:
        connection = await asyncpg.connect(postgres_url)
        await connection.execute(f"CREATE DATABASE {template}")
        await connection.close()
        redis = Redis.from_url(own_redis)
        await redis.flushdb()
        history = await make_history(own_redis, f"{server}/{template}")
        keys = await kept_keys(redis)
        await redis.aclose()
        return history, keys

    history, keys = asyncio.run(make())
    yield Base(history, template, own_redis, keys)
    asyncio.run(drop_database(postgres_url, template))


@pytest.fixture
async def system(base: Base, postgres_url: str) -> AsyncIterator[System]:
    """A fresh copy."""
    redis = Redis.from_url(base.redis_url)
    await restore(redis, base.redis_keys)
    async with temporary_database(postgres_url, base.template) as url:
        pool = await reader_pool(url, 3)
        yield System(pool, redis, FrozenLive(base.history.digests), base.history)
        await pool.close()
    await redis.aclose()


async def test_a_real_history_is_clean_and_was_looked_at(system: System) -> None:
    results = await system.audit()
    assert [result.findings for result in results] == [[], []]
    assert [result.partition for result in results] == [0, 1]
    assert all(result.seq == result.projected_seq > 0 for result in results)
    # Of 20 tenants, events and cards those that were needed since their partition was opened last.
    assert sum(result.live_actors for result in results) > 10
    assert sum(result.facts for result in results) >= len(system.history.answers)
    kinds = {type(done.fact).__name__ for done in system.history.answers.values()}
    assert len(kinds) == 28, "the history has facts of nearly every kind"


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
async def test_a_planted_fault_is_found(system: System, plant: Plant) -> None:
    await plant(system)
    assert PLANTED[plant] in await system.failing()


# --- faults of the engine: a journal whose chain is right and whose facts are wrong -----------------------------------


async def rewrite(system: System, change: Callable[[Fact], Fact | None]) -> None:
    """Puts changed facts into the archive of partition 1, chained anew: what a faulty engine would have written."""
    records = await system.pool.fetch("SELECT * FROM journal_entries WHERE partition_id = 1 ORDER BY seq")
    previous = bytes(8)
    for record in records:
        entry = Entry(record["epoch"], record["seq"], record["at_ms"], record["checksum"], record["payload"])
        facts = [changed for fact in decode_facts(entry) if (changed := change(fact)) is not None]
        new = sealed(previous, entry.epoch, entry.seq, entry.at_ms, encode_facts(facts))
        previous = new.checksum
        await system.pool.execute(
            "UPDATE journal_entries SET payload = $1, checksum = $2 WHERE partition_id = 1 AND seq = $3",
            new.payload,
            new.checksum,
            new.seq,
        )
    await system.pool.execute("UPDATE positions SET checksum = $1 WHERE partition_id = 1", previous)


def first_of(fact_type: type[Any], /, **having: object) -> Callable[[Fact], bool]:
    """Recognises the first fact of a kind with these values."""
    seen: list[Fact] = []

    def is_it(fact: Fact) -> bool:
        if (
            not seen
            and isinstance(fact, fact_type)
            and all(getattr(fact, name) == value for name, value in having.items())
        ):
            seen.append(fact)
            return True
        return False

    return is_it


FAILED_TWICE = (RuleFailure("rule_4", 1, "when", "key_missing"),) * 2
OTHER_WINNERS = (Winner(1, f"card_{FIRST}_5", 1, 0),)
NO_SUCH_RULE = Schedules((RuleDue("no", FAR_MS),))
WRONG_FACTS: dict[str, tuple[Any, ...]] = {
    "spends below zero": (PointsPosted, {"kind": "redeem"}, {"amount": -10_000, "balance_after": -9_840}, "ledger"),
    "balance is no sum": (PointsPosted, {"kind": "award", "cause": "request"}, {"balance_after": 1}, "ledger"),
    "award for no scan": (PointsPosted, {"rule": "rule_checkin:1"}, {"cause": "checkin:none"}, "award_causes"),
    "scan says more than the ledger": (ScanJudged, {"points_awarded": 10}, {"points_awarded": 11}, "award_causes"),
    "reverses twice": (PointsPosted, {"reverses": 1}, {"reverses": 4}, "reversals"),
    "reverses too much": (PointsPosted, {"reverses": 4}, {"amount": 71}, "reversals"),
    "admits beyond the capacity": (ScanJudged, {"reason": "full"}, {"reason": ""}, "attendance"),
    "counts a refusal as inside": (ScanJudged, {"reason": "full"}, {"inside": 4}, "attendance"),
    "lets out who is not in": (ScanJudged, {"reason": "not_inside"}, {"reason": ""}, "attendance"),
    "forgets the first admission": (ScanJudged, {"reason": "already_admitted"}, {"first_at_ms": 1}, "attendance"),
    "invents a reason": (ScanJudged, {"reason": "full"}, {"reason": "bad_mood"}, "attendance"),
    "earns what was not given": (PointsPosted, {"kind": "award"}, {"earned_after": 1_000}, "leaderboards"),
    "a wallet below zero": (PointsPosted, {"kind": "pay"}, {"amount": -50_001, "balance_after": -1}, "ledger"),
    "draws on no account": (PointsPosted, {"kind": "redeem"}, {"contra_after": 0}, "double_entry"),
    "puts aside and takes nothing": (PointsPosted, {"kind": "hold"}, {"takings": ()}, "holds"),
    "captures more than was held": (PointsPosted, {"kind": "capture"}, {"amount": -9}, "holds"),
    "lets go less than was held": (PointsPosted, {"kind": "release"}, {"held": -1}, "holds"),
    "lapses before its time": (PointsPosted, {"kind": "release"}, {"kind": "lapse"}, "holds"),
    "ends a hold that is not there": (PointsPosted, {"kind": "release"}, {"reverses": 5}, "holds"),
    "a transfer arrives elsewhere": (PointsPosted, {"kind": "transfer"}, {"cause": "transfer-to:nobody"}, "transfers"),
    "a transfer arrives in part": (
        PointsPosted,
        {"cause": f"transfer-from:card_{FIRST}_1"},
        {"amount": 29},
        "transfers",
    ),
    "posts to another tenant's card": (
        PointsPosted,
        {"kind": "redeem"},
        {"card_id": f"card_{SECOND}_0"},
        "tenants_apart",
    ),
    "is of another partition's tenant": (ScanJudged, {}, {"tenant_id": THIRD}, "tenants_apart"),
    "counts a card too many": (CardIssued, {}, {"cards_after": 2}, "plans"),
    "makes no room": (CardStateChanged, {"state": "revoked"}, {"cards_after": 6}, "plans"),
    "gives a serial twice": (CardReissued, {}, {"serial": 0}, "card_life"),
    "gives a number twice": (CardIssued, {"number": 2}, {"number": 1}, "card_numbers"),
    "gives a tag to a second card": (TagAssigned, {"tag_uid": OTHER_TAG}, {"tag_uid": TAG}, "tags"),
    "takes a tap twice": (ScanJudged, {"reason": "credential_replayed"}, {"reason": "card_suspended"}, "tags"),
    "says another day of a visit": (ScanJudged, {"direction": "entry", "reason": ""}, {"visit_day": 1}, "visits"),
    "earns more towards a tier than it gives": (
        PointsPosted,
        {"note": TIERS_NOTE},
        {"earned_on": EarnedDay(20_260_101, 600)},
        "tiers",
    ),
    "lifts a card higher than its points": (CardTierChanged, {"reason": "points"}, {"tier": "diamond"}, "tiers"),
    "expects a birthday on another day": (CardHolderDescribed, {}, {"birthday_on": 20_290_301}, "birthdays"),
    "pays a board out to nobody": (BoardPaidOut, {"board": "regulars"}, {"winners": ()}, "payouts"),
    "pays a board out to others": (BoardPaidOut, {"board": "regulars"}, {"winners": OTHER_WINNERS}, "payouts"),
    "pays less than the prize": (PointsPosted, {"amount": 21}, {"amount": 19}, "payouts"),
    "pays a board out twice": (BoardPaidOut, {"board": "points"}, {"board": "regulars"}, "payouts"),
    "expects a rule that is gone": (SchedulesMoved, {}, {"schedules": NO_SUCH_RULE}, "schedules"),
    "a rule applies without a cause": (RulesApplied, {}, {"cause": "checkin:none"}, "rules"),
    "a rule gives more than is posted": (PointsPosted, {"rule": "rule_1:1"}, {"amount": 3}, "rules"),
    "an effect cites another version": (EffectRequested, {}, {"version": 9}, "rules"),
    "a rule fails twice a day": (RulesApplied, {"trigger": "checkin"}, {"failures": FAILED_TWICE}, "rules"),
    "units come back that were not used": (RuleUnitsReturned, {}, {"cause": "checkin:none"}, "rules"),
    "a version is left out": (RuleDeleted, {}, {"version": 2}, "rules"),
    "answers without an id": (ScanJudged, {}, {"request_id": ""}, "requests"),
    **WRONG_COUPON_FACTS,
}


@pytest.mark.parametrize("name", WRONG_FACTS)
async def test_a_wrong_fact_in_an_intact_journal_is_found(system: System, name: str) -> None:
    kind, having, changes, check = WRONG_FACTS[name]
    is_it = first_of(kind, **having)
    changed: list[Fact] = []

    def change(fact: Fact) -> Fact:
        if is_it(fact):
            changed.append(fact)
            return msgspec.structs.replace(fact, **changes)  # type: ignore[arg-type]
        return fact

    await rewrite(system, change)
    assert changed, "the fault was planted"
    assert check in await system.failing()


async def test_an_entry_that_cannot_be_read_is_found(system: System) -> None:
    mark = await system.pool.fetchrow("SELECT * FROM journal_entries WHERE partition_id = 1 ORDER BY seq DESC LIMIT 1")
    assert mark is not None
    entry = sealed(mark["checksum"], mark["epoch"], mark["seq"] + 1, 1, b"no facts")
    await system.sql(
        "INSERT INTO journal_entries VALUES (1, $1, $2, 1, 1, $3, $4)",
        *(entry.seq, entry.epoch, entry.checksum, entry.payload),
    )
    assert "facts" in await system.failing()


def test_every_check_has_a_fault_that_it_finds() -> None:
    found = {*PLANTED.values(), *(check for *_, check in WRONG_FACTS.values()), "facts", "replay", "acks"}
    assert found == set(CHECKS)


async def test_a_fact_left_out_is_found(system: System) -> None:
    is_it = first_of(PointsPosted, kind="expire")
    await rewrite(system, lambda fact: None if is_it(fact) else fact)
    failing = await system.failing()
    assert {"ledger", "replay"} <= failing
    assert "journal_chain" not in failing, "the chain alone would not have told"


# --- what clients were told -------------------------------------------------------------------------------------------


def ack_lines(history: History) -> list[bytes]:
    """What a client that sent everything would have written down."""
    return [
        msgspec.json.encode({"t": "ack", "tenant": tenant, "id": request_id, "outcome": outcome_of(done.fact)}) + b"\n"
        for (tenant, request_id), done in history.answers.items()
    ]


async def acks_failing(system: System, lines: list[bytes]) -> list[str]:
    book = AckBook(lines, outcome_of)
    results = await system.audit(book)
    return [finding.detail for result in results for finding in result.findings] + [
        finding.detail for finding in [*book.findings, *book.missing()]
    ]


async def test_everything_acknowledged_is_there(system: System) -> None:
    lines = ack_lines(system.history)
    assert len(lines) > 50
    assert await acks_failing(system, [*lines, *lines]) == []


async def test_what_a_socket_told_is_the_same_as_what_rest_told(system: System) -> None:
    facts = [done.fact for done in system.history.answers.values() if isinstance(done.fact, ScanJudged)]
    assert any(fact.first_at_ms for fact in facts)
    for fact in facts:
        assert canonical(verdict_frame(fact, True, fact.request_id)) == canonical(outcome_of(fact))


async def test_an_acknowledgement_without_a_fact_is_found(system: System) -> None:
    lines = [b'{"t":"sent","tenant":"%b","id":"never"}\n' % FIRST.encode()]
    assert await acks_failing(system, lines) == [], "no answer: nothing was promised"
    lines += [b'{"t":"ack","tenant":"%b","id":"never","outcome":{"verdict":"admitted"}}\n' % FIRST.encode()]
    (detail,) = await acks_failing(system, lines)
    assert "is not in the journal" in detail


async def test_another_outcome_than_was_told_is_found(system: System) -> None:
    lines = ack_lines(system.history)
    wrong = [line.replace(b'"verdict":"admitted"', b'"verdict":"refused"', 1) for line in lines]
    assert wrong != lines
    assert any("was told another outcome" in detail for detail in await acks_failing(system, wrong))
    assert any("was told two outcomes" in detail for detail in await acks_failing(system, lines + wrong))


async def test_an_effect_of_what_was_rejected_is_found(system: System) -> None:
    tenant, request_id = next(iter(system.history.answers))
    line = msgspec.json.encode({"t": "rejected", "tenant": tenant, "id": request_id, "code": "malformed"}) + b"\n"
    (detail,) = await acks_failing(system, [line])
    assert "was rejected (malformed), but has an effect" in detail


async def test_without_hosts_journal_and_postgres_are_looked_at(system: System) -> None:
    await halt_the_partition(system)
    assert all(not result.findings for result in await system.audit(live=False))


async def test_what_only_moves_is_no_finding(system: System) -> None:
    """A host that writes on: the first look sees a difference, the next one none."""

    class Moving(FrozenLive):
        looks = 0

        async def digests(self, partition: int) -> tuple[int, dict[str, bytes]]:
            self.looks += 1
            seq, digests = self.by_partition[partition]
            return (seq - 1 if self.looks == 1 else seq), digests

    system.live = Moving(system.live.by_partition)
    assert await system.failing() == set()
