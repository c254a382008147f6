"""Identity and what it is made of: tokens, ids, the cache, and doors that stay open while Postgres is away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.ids import uuid7_time_ms
from actors.ports import StoreUnavailable
from gateway import limits
from gateway.access_feed import AccessChange
from gateway.identity.access_tokens import Claims
from gateway.identity.callers import Caller, CallerRecord, Identity, Person
from gateway.identity.tokens import SecretMaker, Token, hash_secret, make_token, parse_token
from gateway.ids import IdMaker, derived_id, is_id, is_request_id

CALLER = Caller("org_a", "api_key", frozenset({"scan"}), key_id="key_1")
SECRET = "s" * 52
TOKEN = make_token("api_key", "org_a", "key_1", SECRET)
WRONG = make_token("api_key", "org_a", "key_1", "t" * 52)


class FakeStore:
    """One key; can be away, or slow."""

    def __init__(self) -> None:
        self.lookups: list[Token] = []
        self.is_away = False
        self.record: CallerRecord | None = CallerRecord(hash_secret(SECRET), CALLER)
        self.gate: asyncio.Event | None = None
        self.person: Person | None = None
        self.people_asked: list[tuple[str, str]] = []
        self.asked: asyncio.Queue[None] = asyncio.Queue()

    async def find_holder(self, token: Token) -> CallerRecord | None:
        """See `gateway.identity.callers.CallerStore`."""
        self.lookups.append(token)
        self.asked.put_nowait(None)
        record = self.record
        if self.gate is not None:
            await self.gate.wait()
        if self.is_away:
            raise StoreUnavailable("away")
        return record if token.holder_id == "key_1" else None

    async def find_person(self, account_id: str, session_id: str) -> Person | None:
        """See `gateway.identity.callers.CallerStore`."""
        self.people_asked.append((account_id, session_id))
        self.asked.put_nowait(None)
        person = self.person
        if self.gate is not None:
            await self.gate.wait()
        if self.is_away:
            raise StoreUnavailable("away")
        return person


class Clock:
    """Milliseconds, set by the test."""

    now = 1_000_000

    def __call__(self) -> int:
        return self.now


class FakeTokens:
    """Good access tokens: "eyJ", the organisation chosen, and when they end; anything else is none."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def verify(self, token: str) -> Claims | None:
        """See `gateway.identity.callers.AccessTokenVerifier`."""
        _, org_id, exp = (token + "||").split("|")[:3]
        if not exp.isdecimal() or int(exp) * 1_000 <= self._clock():
            return None
        return Claims("acc_1", "ses_1", "at_1", 0, 0, int(exp), org_id)

    def left_ms(self, claims: Claims) -> int:
        """See `gateway.identity.callers.AccessTokenVerifier`."""
        return claims.expires_at_ms - self._clock()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def identity(store: FakeStore, clock: Clock) -> Identity:
    return Identity(store, clock, FakeTokens(clock))


async def test_a_caller_is_looked_up_once_and_then_cached(identity: Identity, store: FakeStore, clock: Clock) -> None:
    assert identity.cached(TOKEN) is None
    assert await identity.authenticate(TOKEN) == CALLER
    assert identity.cached(TOKEN) == CALLER
    clock.now += limits.IDENTITY_FRESH_MS - 1
    assert identity.cached(TOKEN) == CALLER
    clock.now += 1
    assert identity.cached(TOKEN) is None
    assert await identity.authenticate(TOKEN) == CALLER
    assert len(store.lookups) == 2


async def test_many_at_once_cost_one_look_up(identity: Identity, store: FakeStore) -> None:
    store.gate = asyncio.Event()
    asked = [asyncio.create_task(identity.authenticate(TOKEN)) for _ in range(50)]
    await asyncio.sleep(0)
    asked[0].cancel()
    store.gate.set()
    assert await asyncio.gather(*asked[1:]) == [CALLER] * 49
    assert len(store.lookups) == 1


@pytest.mark.parametrize(
    "token", ["", "x", "mvk_", "mvk_a_b", WRONG, TOKEN + "x", TOKEN[:-1], TOKEN.upper(), "é" * 9, "mvs_x"]
)
async def test_whoever_is_not_known_is_nobody(identity: Identity, token: str) -> None:
    assert await identity.authenticate(token) is None


async def test_unknown_tokens_are_remembered_briefly_and_in_bounds(
    identity: Identity, store: FakeStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        assert await identity.authenticate(WRONG) is None
    assert len(store.lookups) == 1
    clock.now += limits.IDENTITY_NEGATIVE_MS
    assert await identity.authenticate(WRONG) is None
    assert len(store.lookups) == 2
    monkeypatch.setattr(limits, "IDENTITY_NEGATIVE_ENTRIES_MAX", 10)
    monkeypatch.setattr(limits, "IDENTITY_CACHE_ENTRIES_MAX", 1)
    for number in range(30):
        await identity.authenticate(make_token("api_key", "org_a", f"key_{number + 10}", SECRET))
    assert len(identity._unknown_until_ms) <= 10


async def test_a_revoked_key_stops_after_the_fresh_time_or_at_once_here(
    identity: Identity, store: FakeStore, clock: Clock
) -> None:
    await identity.authenticate(TOKEN)
    store.record = None
    clock.now += limits.IDENTITY_FRESH_MS
    assert await identity.authenticate(TOKEN) is None
    store.record = CallerRecord(hash_secret(SECRET), CALLER)
    clock.now += limits.IDENTITY_NEGATIVE_MS
    assert await identity.authenticate(TOKEN) == CALLER
    identity.on_change(AccessChange("api_key", "key_1", "org_a"))
    assert identity.cached(TOKEN) is None


async def test_doors_stay_open_while_postgres_is_away(identity: Identity, store: FakeStore, clock: Clock) -> None:
    await identity.authenticate(TOKEN)
    confirmed_at = clock.now
    store.is_away = True
    while clock.now + limits.IDENTITY_FRESH_MS < confirmed_at + limits.IDENTITY_STALE_MS:
        clock.now += limits.IDENTITY_FRESH_MS
        assert identity.cached(TOKEN) is None
        assert await identity.authenticate(TOKEN) == CALLER
        assert identity.cached(TOKEN) == CALLER, "an outage costs one failed look-up per caller and interval"
    clock.now = confirmed_at + limits.IDENTITY_STALE_MS
    assert identity.cached(TOKEN) is None
    with pytest.raises(StoreUnavailable):
        await identity.authenticate(TOKEN)


async def test_a_stranger_is_not_let_in_while_postgres_is_away(identity: Identity, store: FakeStore) -> None:
    store.is_away = True
    with pytest.raises(StoreUnavailable):
        await identity.authenticate(TOKEN)
    store.is_away = False
    assert await identity.authenticate(TOKEN) == CALLER, "an outage is not remembered as unknown"


async def test_a_store_that_hangs_counts_as_away(
    identity: Identity, store: FakeStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await identity.authenticate(TOKEN)
    monkeypatch.setattr(limits, "IDENTITY_LOOKUP_TIMEOUT_MS", 10)
    store.gate = asyncio.Event()
    clock.now += limits.IDENTITY_FRESH_MS
    assert await identity.authenticate(TOKEN) == CALLER


# --- tokens and ids ---------------------------------------------------------------------------------------------------


@given(st.sampled_from(["org_a", "a", "org_a_b", "x.y-z"]), st.sampled_from(["api_key", "device"]))
def test_a_token_says_whose_it_is(tenant_id: str, kind: str) -> None:
    holder = {"api_key": "key_1", "device": "dev_1"}[kind]
    token = make_token(kind, tenant_id, holder, SECRET)  # type: ignore[arg-type]
    assert parse_token(token) == Token(kind, tenant_id, holder, hash_secret(SECRET))  # type: ignore[arg-type]


@given(st.text(max_size=300))
def test_no_text_breaks_the_parser(text: str) -> None:
    for candidate in (text, "mvk_" + text, "mvd_" + text + "_a_b"):
        parse_token(candidate)


def test_secrets_depend_on_every_part() -> None:
    maker = SecretMaker(b"m" * 32)
    secrets = {
        maker.secret("api_key", "a", "bc"),
        maker.secret("api_key", "ab", "c"),
        maker.secret("device", "a", "bc"),
        SecretMaker(b"n" * 32).secret("api_key", "a", "bc"),
    }
    assert len(secrets) == 4
    assert all(len(secret) == 52 and secret.isalnum() for secret in secrets)
    assert len(maker.code("pairing", "a")) == limits.PAIRING_CODE_CHARS


def maker_at(now_ms: int, random: Callable[[int], bytes]) -> IdMaker:
    return IdMaker(lambda: now_ms, random)


@given(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_request_ids_are_uuid7(now_ms: int, random: bytes) -> None:
    request_id = maker_at(now_ms, lambda count: random[:count]).request_id()
    assert uuid7_time_ms(request_id) == now_ms
    assert request_id[19] in "89ab"
    assert [len(part) for part in request_id.split("-")] == [8, 4, 4, 4, 12]


@given(st.integers(0, 2**48 - 2), st.binary(min_size=10, max_size=10), st.binary(min_size=10, max_size=10))
def test_entity_ids_sort_by_time(now_ms: int, first: bytes, second: bytes) -> None:
    earlier = maker_at(now_ms, lambda count: first[:count]).entity("card")
    later = maker_at(now_ms + 1, lambda count: second[:count]).entity("card")
    assert earlier < later
    assert is_id(earlier)
    assert len(earlier) == 25


def test_derived_ids() -> None:
    assert derived_id("org", "a", "b") == derived_id("org", "a", "b")
    assert derived_id("org", "a", "b") != derived_id("org", "ab", "")
    assert is_id(derived_id("org", "a"))


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("a", True),
        ("a.b-c_D9", True),
        ("", False),
        ("a b", False),
        ("a\n", False),
        ("é", False),
        ("a" * 64, True),
        ("a" * 65, False),
    ],
)
def test_ids(text: str, good: bool) -> None:
    assert is_id(text) is good


@pytest.mark.parametrize(
    ("text", "good"),
    [("a b", True), ("é", True), ("", False), ("\x00", False), ("a\n", False), ("\ud800", False), ("x" * 65, False)],
)
def test_request_ids(text: str, good: bool) -> None:
    assert is_request_id(text) is good


async def test_a_hanging_store_makes_no_known_caller_wait_for_the_others(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a queue for look-ups and a time-out each, a hundred scanners would wait for minutes."""

    class AnyKey(FakeStore):
        async def find_holder(self, token: Token) -> CallerRecord | None:
            await super().find_holder(token)
            return self.record

    hanging = AnyKey()
    identity = Identity(hanging, clock, FakeTokens(clock))
    tokens = [make_token("api_key", "org_a", f"key_{number}", SECRET) for number in range(100)]
    for token in tokens:
        await identity.authenticate(token)
    hanging.gate = asyncio.Event()
    monkeypatch.setattr(limits, "IDENTITY_LOOKUP_TIMEOUT_MS", 600_000)
    clock.now += limits.IDENTITY_FRESH_MS
    async with asyncio.timeout(5):
        assert [await identity.authenticate(token) for token in tokens] == [CALLER] * 100
    hanging.record = None
    hanging.gate.set()
    await asyncio.gather(*identity._tasks)
    assert identity.cached(tokens[0]) is None, "what the look-up found in the end holds"


async def test_once_the_store_is_quick_again_known_callers_wait_for_it(
    identity: Identity, store: FakeStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "IDENTITY_PATIENCE_MS", 1)
    await identity.authenticate(TOKEN)
    store.gate = asyncio.Event()
    clock.now += limits.IDENTITY_FRESH_MS
    assert await identity.authenticate(TOKEN) == CALLER
    store.gate.set()
    await asyncio.gather(*identity._tasks)
    monkeypatch.setattr(limits, "IDENTITY_PATIENCE_MS", 60_000)
    store.record, store.gate = None, asyncio.Event()
    clock.now += limits.IDENTITY_FRESH_MS
    asking = asyncio.create_task(identity.authenticate(TOKEN))
    for _ in range(10):
        await asyncio.sleep(0)
    store.gate.set()
    assert await asking is None
