"""A small but varied history, made by the real engine on the real stores in one process: no Ray, no edge.

Two organisations share partition 1 of two, a third has partition 0. They award, redeem, reverse and refuse points,
admit and refuse scans, let people out and in again, repeat requests, change settings, and lose their host twice (three
epochs), use coupons.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from itertools import count

import msgspec
from redis.asyncio import Redis

from actors.admin import checkin_rule
from actors.card_commands import AssignTag, ReissueCard, RemoveTag, RenewCard, SetCardTier
from actors.codec import Message, decode_answers, encode_messages
from actors.commands import (
    AwardPoints,
    ChangeCardState,
    ChangeEvent,
    ChangePlan,
    ChangeTenant,
    CheckIn,
    Command,
    CreateEvent,
    IssueCard,
    OpenTenant,
    RedeemPoints,
    ReversePoints,
    fingerprint,
)
from actors.door_commands import AnnulScan, AnswerQuestions, ChangeAdmissionList, NoteCard, SendOut
from actors.facts import PointsPosted
from actors.host import Host
from actors.ids import partition_of
from actors.member_commands import DescribeCardHolder
from actors.points_commands import CapturePoints, ConfirmPoints, HoldPoints, ReleasePoints, TransferPoints
from actors.profiles import Profile
from actors.replies import Digest, Done, Reply
from actors.rule_commands import DeleteRule, SaveRule
from actors.terms import (
    FAR_MS,
    Admission,
    EventTerms,
    Gate,
    Question,
    Session,
    TenantSettings,
    TierLevel,
    TierTerms,
    Zone,
)
from actors.tier_commands import SetTiers
from rules.language import AwardPoints as RuleAward
from rules.language import Limits, Notify, RuleDefinition, Schedule
from storage.migrate import migrate
from storage.postgres import reader_pool, writer_pool
from storage.postgres_store import PostgresStore
from storage.projector import Projector
from storage.redis_journal import RedisJournal
from tests.support.coupon_faults import use_coupons

PARTITION_COUNT = 2
CARDS = 6
OTHER_CARDS = 2
TIERS_NOTE = "enough for gold"
TAG, OTHER_TAG = "04C767F2066180", "04C767F2066181"
DRAIN_TIMEOUT_S = 20


def tenant_in(partition: int, nth: int = 0) -> str:
    """The nth tenant id of a partition."""
    names = (f"org_{n}" for n in count())
    return [
        name
        for name, _ in zip(
            (n for n in names if partition_of(n, PARTITION_COUNT) == partition), range(nth + 1), strict=False
        )
    ][nth]


FIRST, SECOND, THIRD = tenant_in(1), tenant_in(1, 1), tenant_in(0)


class History(msgspec.Struct):
    """What it led to: durable seq and live actors' digests by partition, every answer by tenant and request id."""

    digests: dict[int, tuple[int, dict[str, bytes]]] = msgspec.field(default_factory=dict)
    answers: dict[tuple[str, str], Done] = msgspec.field(default_factory=dict)


class Quiet:
    """A publisher that nobody listens to."""

    def publish(self, digests: Sequence[Digest]) -> None:
        """See `actors.host.Publisher`."""


class Teller:
    """Makes commands with ids, and asks them of a host."""

    def __init__(self, host: Host, history: History) -> None:
        self._host = host
        self._history = history
        self._number = count(1)

    async def ask(self, *messages: Message) -> list[Reply]:
        """The replies, all of them collected."""
        answers = decode_answers(await self._host.submit(encode_messages(messages)))
        replies = answers.replies
        if answers.ticket:
            late = iter(decode_answers(await self._host.collect(answers.ticket)).replies)
            replies = [next(late) if type(reply).__name__ == "Deferred" else reply for reply in replies]
        for reply in replies:
            assert isinstance(reply, Done), reply
            self._history.answers.setdefault((reply.fact.tenant_id, reply.fact.request_id), reply)
        return replies

    def command(self, command: Command) -> Command:
        """With a fresh request id and its fingerprint."""
        named = msgspec.structs.replace(command, request_id=f"req-{next(self._number)}")
        return msgspec.structs.replace(named, fingerprint=fingerprint(named))

    async def do(self, *commands: Command) -> list[Reply]:
        """Asks new commands."""
        return await self.ask(*(self.command(command) for command in commands))


def scan(tenant_id: str, card: int, direction: str = "entry", gate: str = "gate_1", device: str = "dev_1") -> CheckIn:
    return CheckIn(tenant_id, "", b"", f"evt_{tenant_id}", f"card_{tenant_id}_{card}", gate, device, direction)  # type: ignore[arg-type]


async def _found(teller: Teller, tenant_id: str, cards: int) -> None:
    settings = TenantSettings("Asia/Ho_Chi_Minh", 0, (checkin_rule(10),))
    await teller.do(OpenTenant(tenant_id, "", b"", f"Org {tenant_id}", settings))
    await teller.do(
        *(
            IssueCard(tenant_id, "", b"", f"card_{tenant_id}_{n}", f"mem_{tenant_id}_{n}", f"Member {n}", "gold")
            for n in range(cards)
        )
    )
    terms = EventTerms("Opening", 3, gates=(Gate("gate_1", "North"), Gate("gate_2", "South")))
    await teller.do(CreateEvent(tenant_id, "", b"", f"evt_{tenant_id}", terms))


async def _evening(teller: Teller, tenant_id: str) -> None:
    """Doors: in, again, full, out, in again, a gate that is not there, an unknown card; a request asked twice."""
    first = teller.command(scan(tenant_id, 0))
    await teller.ask(first)
    await teller.ask(first)
    await teller.do(scan(tenant_id, 1), scan(tenant_id, 2, gate="gate_2"), scan(tenant_id, 0), scan(tenant_id, 3))
    await teller.do(scan(tenant_id, 1, "exit"), scan(tenant_id, 4, "exit"), scan(tenant_id, 3, gate="gate_9"))
    await teller.do(scan(tenant_id, 3), scan(tenant_id, 77), scan(tenant_id, 2, "exit"), scan(tenant_id, 1))


async def _festival(teller: Teller, tenant_id: str) -> None:
    """Zones, a session, a list, questions; scans that were decided without a network, forced, annulled."""
    event_id, now_ms = f"evt_{tenant_id}", time.time_ns() // 1_000_000
    session = Session("ses_1", "Night", now_ms - 60_000, now_ms + 3_600_000)
    zones = (Zone("zone_1", "Floor", 2), Zone("zone_2", "Balcony"))
    gates = [Gate("gate_1", "North", True, "zone_1"), Gate("gate_2", "South", True, "zone_2")]
    await teller.do(ChangeEvent(tenant_id, "", b"", event_id, zones=zones, sessions=(session,), reentry="after_exit"))
    await teller.do(*(ChangeEvent(tenant_id, "", b"", event_id, gate=gate) for gate in gates))
    listed = tuple(f"card_{tenant_id}_{n}" for n in range(3))
    await teller.do(ChangeAdmissionList(tenant_id, "", b"", event_id, listed, ()))
    await teller.do(ChangeAdmissionList(tenant_id, "", b"", event_id, (), listed[2:]))
    asked = (Question("q_1", "Vegan?", ("yes", "no")),)
    await teller.do(ChangeEvent(tenant_id, "", b"", event_id, admission=Admission((), True, "Ask"), questions=asked))
    await teller.do(scan(tenant_id, 0), scan(tenant_id, 0, gate="gate_2"), scan(tenant_id, 3))
    await teller.do(AnswerQuestions(tenant_id, "", b"", event_id, listed[0], (("q_1", "no"),)))
    forced = msgspec.structs.replace(scan(tenant_id, 3), forced_by="acc_boss")
    late = msgspec.structs.replace(scan(tenant_id, 1), is_offline=True, scanned_at_ms=now_ms - 30_000)
    twice = msgspec.structs.replace(late, device_id="dev_2", scanned_at_ms=now_ms - 40_000)
    await teller.do(NoteCard(tenant_id, "", b"", listed[1], "Greet"), late, twice)
    named = teller.command(forced)
    await teller.ask(named)
    await teller.do(AnnulScan(tenant_id, "", b"", event_id, named.request_id, "dev_1"))
    await teller.do(SendOut(tenant_id, "", b"", event_id), scan(tenant_id, 0))


async def _life(teller: Teller, tenant_id: str) -> None:
    """Cards get new credentials, other validity and tiers, and tags that are tapped, twice with one counter."""

    def card(number: int) -> str:
        return f"card_{tenant_id}_{number}"

    def tap(counter: int, uid: str = TAG) -> CheckIn:
        return msgspec.structs.replace(scan(tenant_id, 0), card_id="", tag_uid=uid, tag_counter=counter)

    await teller.do(ReissueCard(tenant_id, "", b"", card(0), "lost"), scan(tenant_id, 0))
    await teller.do(
        ReissueCard(tenant_id, "", b"", card(5)), RenewCard(tenant_id, "", b"", card(5), 0, 4_102_444_800_000)
    )
    await teller.do(SetCardTier(tenant_id, "", b"", card(5), "diamond"), AssignTag(tenant_id, "", b"", card(0), TAG))
    await teller.do(AssignTag(tenant_id, "", b"", card(5), TAG), AssignTag(tenant_id, "", b"", card(5), OTHER_TAG))
    await teller.do(tap(3), tap(3), tap(5), tap(9, "04000000000000"))
    await teller.do(RemoveTag(tenant_id, "", b"", card(5)), ChangeCardState(tenant_id, "", b"", card(5), "suspended"))


async def _rules(teller: Teller, tenant_id: str) -> None:
    """A rule that notes and is limited, one that is changed, one that is deleted, one that fails."""
    notes = RuleDefinition(
        rule_id="rule_1",
        version=0,
        name="Welcome",
        on="checkin",
        when="card.tier == 'gold'",
        then=(RuleAward(2), Notify("", "Hello")),
        limits=Limits(per_card=3, points_budget=1_000),
        state="active",
    )
    other = msgspec.structs.replace(notes, rule_id="rule_2", limits=Limits(), then=(RuleAward(0, "card.points / 10"),))
    gone = msgspec.structs.replace(other, rule_id="rule_3", state="paused")
    fails = msgspec.structs.replace(other, rule_id="rule_4", when="member.attributes.vip == 'yes'")
    await teller.do(*(SaveRule(tenant_id, "", b"", rule, True) for rule in (notes, other, gone, fails)))
    await teller.do(SaveRule(tenant_id, "", b"", msgspec.structs.replace(other, name="More")))
    await teller.do(DeleteRule(tenant_id, "", b"", "rule_3"))


async def _tiers(teller: Teller, tenant_id: str, now_ms: int) -> None:
    """Tiers by points: reached by an award and, once that is reversed, kept; set by hand until a moment later."""
    levels = (TierLevel("bronze", 0), TierLevel("silver", 100), TierLevel("gold", 500), TierLevel("diamond", 2_000))
    card = f"card_{tenant_id}_1"
    await teller.do(SetTiers(tenant_id, "", b"", TierTerms(levels)), SetCardTier(tenant_id, "", b"", card, "bronze"))
    (reply,) = await teller.do(AwardPoints(tenant_id, "", b"", card, 600, TIERS_NOTE))
    assert isinstance(reply, Done)
    assert isinstance(reply.fact, PointsPosted)
    await teller.do(ReversePoints(tenant_id, "", b"", card, reply.fact.entry_seq))
    await teller.do(SetCardTier(tenant_id, "", b"", card, "diamond", "", now_ms + 400))
    await asyncio.sleep(0.5)
    await teller.do(AwardPoints(tenant_id, "", b"", card, 120))


async def _birthdays(teller: Teller, tenant_id: str) -> None:
    """What rules may know of a member, told, and told otherwise; and a rule that comes at a local time."""
    rule = RuleDefinition(
        rule_id="rule_9",
        version=0,
        name="News",
        on="schedule",
        when="true",
        then=(Notify("", "News"),),
        state="active",
        schedule=Schedule(540, days_of_month=(31,)),
    )
    await teller.do(SaveRule(tenant_id, "", b"", rule, True))
    for attributes in ("", '{"vip":"yes"}'):
        profile = Profile(229, 1992, attributes)
        await teller.do(DescribeCardHolder(tenant_id, "", b"", f"card_{tenant_id}_5", profile))


async def _points(teller: Teller, tenant_id: str, now_ms: int) -> None:
    def card(number: int) -> str:
        return f"card_{tenant_id}_{number}"

    award, expiring = (
        AwardPoints(tenant_id, "", b"", card(0), 100, "welcome"),
        AwardPoints(tenant_id, "", b"", card(0), 50, "", now_ms + 3_600_000),
    )
    await teller.do(award, expiring, AwardPoints(tenant_id, "", b"", card(5), 30, "", now_ms + 150))
    await teller.do(
        RedeemPoints(tenant_id, "", b"", card(0), 70, "drinks"), RedeemPoints(tenant_id, "", b"", card(0), 10_000)
    )
    # Entry 1 of card 0 is its check-in award, 2 and 3 the awards, 4 the redemption.
    await teller.do(ReversePoints(tenant_id, "", b"", card(0), 4), ReversePoints(tenant_id, "", b"", card(0), 1))
    await teller.do(ReversePoints(tenant_id, "", b"", card(0), 4), ReversePoints(tenant_id, "", b"", card(0), 99))
    # Card 1: a wallet, a pending award, and holds that are captured, released and left open.
    await teller.do(
        AwardPoints(tenant_id, "", b"", card(1), 50_000, account="wallet"),
        RedeemPoints(tenant_id, "", b"", card(1), 20_000, account="wallet"),
        AwardPoints(tenant_id, "", b"", card(1), 40, "", now_ms + 3_600_000, FAR_MS),
        HoldPoints(tenant_id, "", b"", card(1), 8),
        HoldPoints(tenant_id, "", b"", card(1), 10_000, account="wallet"),
    )
    # Entry 1 of card 1 is its check-in award, 4 the pending award, 5 and 6 the holds.
    await teller.do(
        ConfirmPoints(tenant_id, "", b"", card(1), 4),
        CapturePoints(tenant_id, "", b"", card(1), 5, 6),
        ReleasePoints(tenant_id, "", b"", card(1), 6),
        HoldPoints(tenant_id, "", b"", card(1), 5),
        CapturePoints(tenant_id, "", b"", card(1), 5),
        TransferPoints(tenant_id, "", b"", card(1), card(3), 30),
    )
    await teller.do(ChangeCardState(tenant_id, "", b"", card(2), "suspended"), scan(tenant_id, 2))
    await asyncio.sleep(0.2)  # card 5's lot lapses: the next posting expires it
    await teller.do(AwardPoints(tenant_id, "", b"", card(5), 5))


async def make_history(redis_url: str, postgres_url: str) -> History:
    """Makes it on an empty Redis database and an empty Postgres database; returns when all of it is projected."""
    await migrate(postgres_url)
    history = History()
    journal = RedisJournal(redis_url)
    readers, writers = await reader_pool(postgres_url, 2), await writer_pool(postgres_url, 2)

    def clock_ms() -> int:
        return time.time_ns() // 1_000_000

    projector = Projector(journal, writers, range(PARTITION_COUNT), clock_ms)
    projecting = asyncio.create_task(projector.run())
    host = Host("host-0", journal, PostgresStore(readers), Quiet(), clock_ms, PARTITION_COUNT)
    await host.start()
    teller = Teller(host, history)
    try:
        await host.adopt(range(PARTITION_COUNT))
        for tenant_id, cards in ((FIRST, CARDS), (SECOND, CARDS), (THIRD, OTHER_CARDS)):
            await _found(teller, tenant_id, cards)
        await _evening(teller, FIRST)
        await host.release([1])
        await host.adopt([1])
        await _evening(teller, SECOND)
        await _points(teller, FIRST, clock_ms())
        await teller.do(scan(THIRD, 0), scan(THIRD, 1), AwardPoints(THIRD, "", b"", f"card_{THIRD}_1", 7))
        await host.release([1])
        await host.adopt([1])
        await _points(teller, SECOND, clock_ms())
        await teller.do(ChangeTenant(FIRST, "", b"", overdraft_max=40, checkin_points=20))
        await teller.do(RedeemPoints(FIRST, "", b"", f"card_{FIRST}_3", 25))
        await teller.do(ChangeEvent(FIRST, "", b"", f"evt_{FIRST}", capacity=4), scan(FIRST, 4))
        await teller.do(
            ChangePlan(SECOND, "", b"", "free"), ChangeCardState(SECOND, "", b"", f"card_{SECOND}_4", "revoked")
        )
        await _rules(teller, SECOND)
        await _festival(teller, SECOND)
        await _life(teller, SECOND)
        await _tiers(teller, SECOND, clock_ms())
        await _birthdays(teller, SECOND)
        await use_coupons(teller, FIRST, clock_ms())
        await _drained(journal, PostgresStore(readers))
        for number in range(PARTITION_COUNT):
            seq = next(line.durable_seq for line in host.status() if line.number == number)
            history.digests[number] = (seq, await host.state_digests(number))
    finally:
        await host.stop()
        await projector.stop()
        await projecting
        await journal.close()
        await readers.close()
        await writers.close()
    return history


async def _drained(journal: RedisJournal, store: PostgresStore) -> None:
    async with asyncio.timeout(DRAIN_TIMEOUT_S):
        for number in range(PARTITION_COUNT):
            while True:
                if await store.position(number) == await journal.tail(number):
                    break
                await asyncio.sleep(0.02)


async def kept_keys(redis: Redis) -> dict[bytes, bytes]:
    """Every key with its value, for `restore`."""
    return {key: await redis.dump(key) for key in await redis.keys("*")}


async def restore(redis: Redis, kept: dict[bytes, bytes]) -> None:
    """Puts the database back to what `kept_keys` saw."""
    await redis.flushdb()
    for key, value in kept.items():
        await redis.restore(key, 0, value)
