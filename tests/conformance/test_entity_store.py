"""What `actors.ports.EntityStore` promises, held against every implementation: on random histories, projected in
batches of random size, a load gives exactly the states that the facts lead to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import msgspec
import pytest

from actors.codec import encode_facts
from actors.entry import EMPTY_PAYLOAD, GENESIS_CHECKSUM, Entry, Mark, sealed
from actors.facts import CommandRefused, Fact
from actors.kinds import KINDS
from actors.ports import BoardScore, EntityStore, Loaded, LoadRequest
from storage.memory_store import MemoryStore
from storage.postgres import reader_pool, writer_pool
from storage.postgres_store import PostgresStore
from storage.replay import digest_of
from tests.support.histories import TENANTS, Author
from tests.support.projection import project

PARTITION = 3
SEEDS = range(12)
ENTRIES = 60
CARDS = tuple(f"card_{n}" for n in range(7))
TAGS = tuple(f"04{n:012X}" for n in range(4))
EVENTS = tuple(f"evt_{n}" for n in range(3))
OTHERS = tuple(kind for kind in KINDS if kind not in ("tenant", "card", "event"))
DAYS = (20_261_121, 20_261_122, 20_261_123)
SPANS = {
    "week:202647": (20_261_116, 20_261_122),
    "week:202648": (20_261_123, 20_261_129),
    "month:202611": (20_261_101, 20_261_130),
    "month:202612": (20_261_201, 20_261_231),
}

AT_MS = 1_700_000_000_000

Feed = Callable[[Sequence[Entry]], Awaitable[None]]
canonical = msgspec.msgpack.Encoder(order="deterministic").encode


def uuid7(made_ms: int) -> str:
    text = f"{made_ms:012x}"
    return f"{text[:8]}-{text[8:]}-7000-8000-000000000001"


class Stage:
    """A store, and the way in which entries come into it."""

    def __init__(self, store: EntityStore, feed: Feed) -> None:
        self.store = store
        self.feed = feed


@pytest.fixture(params=["memory", "postgres"])
def dsn(request: pytest.FixtureRequest) -> str:
    """Of a database without rows; "" for the memory store. (Not async: that could not ask for another by name.)"""
    return str(request.getfixturevalue("migrated_database")) if request.param == "postgres" else ""


@pytest.fixture
async def stage(dsn: str) -> AsyncIterator[Stage]:
    if not dsn:
        memory = MemoryStore()

        async def feed_memory(entries: Sequence[Entry]) -> None:
            memory.project(PARTITION, entries)

        yield Stage(memory, feed_memory)
        return
    writers, readers = await writer_pool(dsn, 1), await reader_pool(dsn, 1)
    mark = Mark()

    async def feed_postgres(entries: Sequence[Entry]) -> None:
        nonlocal mark
        mark = await project(writers, PARTITION, mark, entries)

    yield Stage(PostgresStore(readers), feed_postgres)
    await writers.close()
    await readers.close()


async def feed_in_batches(stage: Stage, author: Author, entries: list[Entry]) -> None:
    while entries:
        count = author.random.choice((1, 1, 3, 10, 30))
        await stage.feed(entries[:count])
        entries = entries[count:]


def everything(author: Author) -> LoadRequest:
    """Asks for all there is, and for as much again that is not there."""
    tenants = (*TENANTS, "org_absent")
    return LoadRequest(
        tenants=tenants,
        cards=tuple((tenant, card) for tenant in tenants for card in CARDS),
        events=tuple((tenant, event) for tenant in tenants for event in EVENTS),
        requests=(*author.positions, *((tenant, "request-absent") for tenant in tenants)),
        ledger_entries=(*author.postings, *((tenant, card, 10_000) for tenant in tenants for card in CARDS)),
        boards=tuple(
            (tenant, window)
            for tenant in tenants
            for window in ("all", *(f"day:{day}" for day in DAYS), *SPANS, *(f"event:{event}" for event in EVENTS))
        ),
        others=(
            *((kind, *key) for kind in OTHERS for key in author.world.actors[kind]),
            *((kind, tenant, absent) for kind in OTHERS for tenant in tenants for absent in ("absent", "a/b")),
        ),
    )


async def test_the_latest_time_that_ids_from_clocks_ahead_claim_is_kept_for_each_tenant(stage: Stage) -> None:
    ids = [uuid7(AT_MS), uuid7(AT_MS + 3_600_000), uuid7(AT_MS + 60_000), uuid7(AT_MS + 30 * 24 * 3_600_000), "scan-1"]
    asked = [*(("org_A", request_id) for request_id in ids), ("org_B", uuid7(AT_MS + 1))]
    facts: list[Fact] = [
        CommandRefused(tenant_id, request_id, b"", AT_MS, "AwardPoints", "card", "amount_invalid", "")
        for tenant_id, request_id in asked
    ]
    opening = sealed(GENESIS_CHECKSUM, 1, 1, AT_MS, EMPTY_PAYLOAD)
    await stage.feed([opening, sealed(opening.checksum, 1, 2, AT_MS, encode_facts(facts))])
    assert await stage.store.claims(PARTITION) == {"org_A": AT_MS + 3_600_000}
    assert await stage.store.claims(PARTITION + 1) == {}


@pytest.mark.parametrize("seed", SEEDS)
async def test_what_is_loaded_is_what_the_facts_lead_to(stage: Stage, seed: int) -> None:
    author = Author(seed)
    await feed_in_batches(stage, author, author.entries(ENTRIES))
    loaded = await stage.store.load(PARTITION, everything(author))
    assert loaded.projected == author.mark == await stage.store.position(PARTITION)
    for found, made in (
        (loaded.tenants, author.world.tenants),
        (loaded.cards, author.world.cards),
        (loaded.events, author.world.events),
    ):
        assert found.keys() == made.keys()
        for key, state in made.items():
            assert canonical(found[key]) == canonical(state), key  # type: ignore[index]
            assert digest_of(found[key]) == digest_of(state)  # type: ignore[index]
    others = {(kind, *key): actor for kind in OTHERS for key, actor in author.world.actors[kind].items()}
    assert {kind for kind, *_ in others} == set(OTHERS)
    assert {key: canonical(actor) for key, actor in loaded.others.items()} == {
        key: canonical(actor) for key, actor in others.items()
    }
    assert loaded.requests == author.positions
    assert {key: entry.fact for key, entry in loaded.ledger_entries.items()} == author.postings
    assert {key for key, entry in loaded.ledger_entries.items() if entry.reversed_by} == author.reversed


@pytest.mark.parametrize("seed", SEEDS)
async def test_boards_are_what_the_postings_lead_to(stage: Stage, seed: int) -> None:
    author = Author(seed)
    await feed_in_batches(stage, author, author.entries(ENTRIES))
    loaded = await stage.store.load(PARTITION, everything(author))
    for (tenant, window), rows in loaded.boards.items():
        assert rows == board_by_hand(author, tenant, window), (tenant, window)


def board_by_hand(author: Author, tenant: str, window: str) -> list[BoardScore]:
    """A board recomputed from all postings of the tenant in order: a score is reached when it last changed."""
    if window in SPANS:
        first, last = SPANS[window]
        days = [(day, row) for day in DAYS for row in _scores_by_hand(author, tenant, f"day:{day}") if row.score]
        return [
            msgspec.structs.replace(row, day=day)
            for day, row in sorted(days, key=lambda pair: (pair[0], pair[1].card_id))
            if first <= day <= last
        ]
    rows = [row for row in _scores_by_hand(author, tenant, window) if row.score > 0]
    return sorted(rows, key=lambda row: (-row.score, row.reached))


def _scores_by_hand(author: Author, tenant: str, window: str) -> list[BoardScore]:
    names = {card: state.member_name for (owner, card), state in author.world.cards.items() if owner == tenant}
    scores: dict[str, tuple[int, int]] = {}
    for fact, position in author.ordered_postings:
        if fact.tenant_id != tenant:
            continue
        if window == "all":
            score = fact.earned_after
        elif window == f"day:{fact.day}":
            score = fact.day_earned_after
        elif window == f"event:{fact.event_id}":
            score = fact.event_earned_after
        else:
            continue
        # An event's score is stamped anew by every posting at the event, see `actors.event`.
        if window.startswith("event:") or scores.get(fact.card_id, (0, 0))[0] != score:
            scores[fact.card_id] = (score, position)
    return [BoardScore(card, names[card], *score) for card, score in scores.items()]


async def test_a_walk_tells_the_next_cards_in_their_order(stage: Stage) -> None:
    author = Author(1)
    await feed_in_batches(stage, author, author.entries(ENTRIES))
    own = sorted(card_id for tenant_id, card_id in author.world.cards if tenant_id == "org_A")
    assert len(own) > 3
    issued_ms = author.world.cards["org_A", own[1]].issued_at_ms
    early = [one for one in own if author.world.cards["org_A", one].issued_at_ms <= issued_ms]
    expected = {
        ("org_A", "", 1 << 60, 100): tuple(own),
        ("org_A", "", 1 << 60, 2): tuple(own[:2]),
        ("org_A", own[0], 1 << 60, 2): tuple(own[1:3]),
        ("org_A", own[-1], 1 << 60, 2): (),
        ("org_A", "", issued_ms, 100): tuple(early),
        ("org_C", "", 1 << 60, 2): (),
    }
    loaded = await stage.store.load(PARTITION, LoadRequest(walks=tuple(expected)))
    assert loaded.walks == expected


async def test_another_tenants_ids_are_absent(stage: Stage) -> None:
    """One tenant's keys under the other's name: they are as absent as those that never were."""
    author = Author(1, ("org_A",))
    await feed_in_batches(stage, author, author.entries(ENTRIES))
    assert author.postings
    assert author.world.actors["tag"]
    stolen = LoadRequest(
        cards=tuple(("org_B", card) for card in CARDS),
        events=tuple(("org_B", event) for event in EVENTS),
        requests=tuple(("org_B", request_id) for _, request_id in author.positions),
        ledger_entries=tuple(("org_B", card, seq) for _, card, seq in author.postings),
        boards=(("org_B", "all"), ("org_B", f"day:{DAYS[0]}"), ("org_B", "event:evt_0")),
        others=tuple((kind, "org_B", own_id) for kind in OTHERS for _, own_id in author.world.actors[kind]),
    )
    loaded = await stage.store.load(PARTITION, stolen)
    assert loaded == Loaded(loaded.projected, boards={key: [] for key in stolen.boards})


async def test_a_partition_without_entries_is_at_zero(stage: Stage) -> None:
    author = Author(1)
    await feed_in_batches(stage, author, author.entries(3))
    assert await stage.store.position(PARTITION + 1) == Mark()


async def test_what_is_loaded_belongs_to_the_reader(stage: Stage) -> None:
    author = Author(2)
    await feed_in_batches(stage, author, author.entries(ENTRIES))
    request = everything(author)
    first = await stage.store.load(PARTITION, request)
    for card in first.cards.values():
        card.balance += 1
    for event in first.events.values():
        for attendance in event.attendance.values():
            attendance.entries += 1
        event.attendance.clear()
    again = await stage.store.load(PARTITION, request)
    assert {key: canonical(event) for key, event in again.events.items()} == {
        key: canonical(event) for key, event in author.world.events.items()
    }
    assert again.cards == author.world.cards


@pytest.mark.parametrize("text", ["nul\0", "half \ud800 pair", "", "' OR 1=1 --", "x" * 5_000])
async def test_a_key_that_cannot_exist_is_absent(stage: Stage, text: str) -> None:
    author = Author(3)
    await feed_in_batches(stage, author, author.entries(ENTRIES))
    tenant, request_id = next(iter(author.positions))
    keys = (("org_A", text), (text, "card_1"))
    loaded = await stage.store.load(
        PARTITION,
        LoadRequest(
            tenants=(text,),
            cards=keys,
            events=keys,
            requests=(*keys, (tenant, request_id)),
            ledger_entries=(("org_A", text, 1), ("org_A", "card_1", 1 << 70)),
            boards=((text, "all"), ("org_A", f"event:{text}")),
        ),
    )
    assert (loaded.tenants, loaded.cards, loaded.events, loaded.ledger_entries) == ({}, {}, {}, {})
    assert list(loaded.requests) == [(tenant, request_id)]
    assert loaded.boards == {(text, "all"): [], ("org_A", f"event:{text}"): []}
