"""Identity of people, and news of changed access that comes while somebody is being looked up."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import msgspec
import pytest

from actors.ports import StoreUnavailable
from gateway import limits
from gateway.access_feed import EVERYTHING, AccessChange
from gateway.identity.callers import Caller, CallerRecord, Identity, Person
from gateway.identity.tokens import hash_secret
from tests.edge.test_identity import CALLER, SECRET, TOKEN, Clock, FakeStore, FakeTokens

PERSON = Person(
    "acc_1", "ses_1", False, True, {"org_b": ("staff", ""), "org_a": ("org_admin", "mem_1"), "org_c": ("member", "m")}
)


def access_token(clock: Clock, org_id: str = "", life_s: int = 900) -> str:
    return f"eyJ|{org_id}|{clock.now // 1_000 + life_s}"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store() -> FakeStore:
    made = FakeStore()
    made.person = PERSON
    return made


@pytest.fixture
def identity(store: FakeStore, clock: Clock) -> Identity:
    return Identity(store, clock, FakeTokens(clock))


async def test_which_organisation_somebody_acts_for(identity: Identity, clock: Clock) -> None:
    plain, pinned, lost = (access_token(clock, org_id) for org_id in ("", "org_c", "org_gone"))

    async def roles(token: str) -> list[tuple[str, str, str]]:
        found = []
        for org_id in ("", "org_a", "org_c", "org_foreign"):
            caller = await identity.authenticate(token, org_id)
            assert caller is not None
            assert caller == identity.cached(token, org_id)
            assert (caller.account_id, caller.session_id, caller.is_verified) == ("acc_1", "ses_1", True)
            found.append((caller.tenant_id, caller.role, caller.member_id))
        return found

    asked_for = [("org_a", "org_admin", "mem_1"), ("org_c", "member", "m"), ("", "account", "")]
    assert await roles(plain) == [("org_b", "staff", ""), *asked_for], "the first joined"
    assert await roles(pinned) == [("org_c", "member", "m"), *asked_for], "the token's"
    assert await roles(lost) == [("", "account", ""), *asked_for], "not another one in its place"


async def test_other_tokens_choose_nothing(identity: Identity) -> None:
    for org_id in ("", "org_a", "org_foreign"):
        assert await identity.authenticate(TOKEN, org_id) == CALLER
        assert identity.cached(TOKEN, org_id) == CALLER


async def test_somebody_is_looked_up_once_for_all_their_organisations(
    identity: Identity, store: FakeStore, clock: Clock
) -> None:
    token = access_token(clock)
    for org_id in ("", "org_a", "org_b", "org_c", "org_foreign"):
        await identity.authenticate(token, org_id)
    assert store.people_asked == [("acc_1", "ses_1")]


async def test_a_token_ends_wherever_it_is_remembered(identity: Identity, store: FakeStore, clock: Clock) -> None:
    token = access_token(clock, life_s=3)
    caller = await identity.authenticate(token)
    assert caller is not None
    assert caller.expires_at_ms == (clock.now // 1_000 + 3) * 1_000
    store.is_away = True
    clock.now = caller.expires_at_ms - 1
    assert identity.cached(token) == caller
    clock.now += 1
    assert identity.cached(token) is None
    assert await identity.authenticate(token) is None, "also while Postgres is away"


@pytest.mark.parametrize("token", ["eyJ", "eyJ|x|y", "eyJ" + "x" * 3_000])
async def test_whoever_is_not_known_is_nobody(identity: Identity, store: FakeStore, token: str) -> None:
    assert await identity.authenticate(token) is None
    assert store.people_asked == []
    assert len(token) < 3_000 or identity._unknown_until_ms == {}, "a huge one is not even remembered"


NEWS = [
    (TOKEN, AccessChange("api_key", "key_1", "org_a"), True),
    (TOKEN, AccessChange("api_key", "key_1", "org_b"), False),
    (TOKEN, AccessChange("device", "key_1", "org_a"), False),
    (TOKEN, AccessChange("org", "org_a"), True),
    (TOKEN, AccessChange("org", "org_b"), False),
    (TOKEN, AccessChange("account", "acc_1"), False),
    ("person", AccessChange("account", "acc_1"), True),
    ("person", AccessChange("account", "acc_2"), False),
    ("person", AccessChange("session", "ses_1"), True),
    ("person", AccessChange("session", "ses_2"), False),
    ("person", AccessChange("org", "org_c"), True),
    ("person", AccessChange("api_key", "key_1", "org_a"), False),
]


@pytest.mark.parametrize(("who", "news", "concerns"), NEWS)
async def test_news_drops_whom_it_is_about(
    identity: Identity, clock: Clock, who: str, news: AccessChange, concerns: bool
) -> None:
    token = access_token(clock) if who == "person" else who
    await identity.authenticate(token)
    identity.on_change(news)
    assert (identity.cached(token) is None) is concerns


@pytest.mark.parametrize(("who", "news", "concerns"), [*NEWS, (TOKEN, EVERYTHING, True), ("person", EVERYTHING, True)])
async def test_news_that_comes_during_a_look_up_is_not_overwritten_by_its_answer(
    identity: Identity, store: FakeStore, clock: Clock, who: str, news: AccessChange, concerns: bool
) -> None:
    """A look-up that asked before the news must not install what it found; whoever comes after the news asks anew."""
    token = access_token(clock) if who == "person" else who
    gate = store.gate = asyncio.Event()
    before = asyncio.create_task(identity.authenticate(token))
    await store.asked.get()
    # What holds from now on; the look-up under way has read what held before, and is slower than the next one.
    store.gate = store.record = store.person = None
    identity.on_change(news)
    after = asyncio.create_task(identity.authenticate(token))
    if concerns:
        assert await after is None
    gate.set()
    assert await before is not None, "it began before the news"
    assert (await after is None) is concerns
    assert (identity.cached(token) is None) is concerns
    assert (await identity.authenticate(token) is None) is concerns


async def test_good_news_undoes_a_refusal(identity: Identity, store: FakeStore, clock: Clock) -> None:
    token = access_token(clock)
    store.person = None
    assert await identity.authenticate(token) is None
    store.person = PERSON
    assert await identity.authenticate(token) is None, "remembered for a moment"
    identity.on_change(AccessChange("account", "acc_1"))
    assert await identity.authenticate(token) is not None


async def test_people_known_here_go_on_while_postgres_is_away_but_not_after_news_of_them(
    identity: Identity, store: FakeStore, clock: Clock
) -> None:
    token = access_token(clock, life_s=3_600)
    caller = await identity.authenticate(token)
    store.is_away = True
    clock.now += limits.IDENTITY_FRESH_MS
    assert await identity.authenticate(token) == caller
    assert await identity.authenticate(token, "org_c") is not None, "for whichever organisation"
    identity.on_change(AccessChange("session", "ses_1"))
    with pytest.raises(StoreUnavailable):
        await identity.authenticate(token)


async def test_a_superadmin_is_one_in_every_organisation(identity: Identity, store: FakeStore, clock: Clock) -> None:
    store.person = msgspec.structs.replace(PERSON, is_superadmin=True)
    token = access_token(clock, "org_a")
    for org_id in ("", "org_a", "org_foreign"):
        caller = await identity.authenticate(token, org_id)
        assert caller is not None
        assert (caller.role, caller.tenant_id) == ("superadmin", "")


async def test_a_look_up_that_nobody_waits_for_raises_nothing(
    identity: Identity, store: FakeStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "IDENTITY_PATIENCE_MS", 1)
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    await identity.authenticate(TOKEN)
    store.gate = asyncio.Event()
    store.is_away = True
    clock.now += limits.IDENTITY_FRESH_MS
    assert await identity.authenticate(TOKEN) == CALLER, "it did not wait"
    identity.on_change(AccessChange("api_key", "key_1", "org_a"))
    store.gate.set()
    await asyncio.wait(identity._tasks)
    gc.collect()
    assert complaints == []


def test_records_without_an_account_have_none_of_its_rights() -> None:
    record = CallerRecord(hash_secret(SECRET), CALLER)
    assert not record.caller.is_verified
    assert Caller("org_a", "device").expires_at_ms == 0
