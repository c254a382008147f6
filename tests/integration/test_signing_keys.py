"""Keys that sign access tokens, on a real Postgres: made once, sealed, replaced without anybody noticing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from actors.ports import StoreUnavailable
from gateway.identity import limits
from gateway.identity.access_tokens import AccessTokens
from gateway.identity.signing_keys import Safe, SigningKeys, jwks
from gateway.ids import IdMaker
from storage.postgres import Pool, reader_pool
from tests.support.identity import NOW_MS, key_maker

MASTER = b"m" * 32
LIFETIME_MS = limits.KEY_LIFETIME_MS


class Clock:
    """Milliseconds, set by the test."""

    now = NOW_MS

    def __call__(self) -> int:
        return self.now


@pytest.fixture
async def pool(migrated_database: str) -> AsyncIterator[Pool]:
    made = await reader_pool(migrated_database, 4)
    yield made
    await made.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def keys_of(pool: Pool, clock: Clock, master: bytes = MASTER) -> SigningKeys:
    """The keys as one gateway sees them."""
    return SigningKeys(pool, Safe(master, os.urandom), IdMaker(clock, os.urandom), clock, LIFETIME_MS, key_maker)


def tokens_of(keys: SigningKeys, clock: Clock) -> AccessTokens:
    return AccessTokens(keys, "mastervip", "mastervip", clock)


async def count(pool: Pool) -> int:
    number: int = await pool.fetchval("SELECT count(*) FROM signing_keys")
    return number


async def test_gateways_that_start_together_make_one_key(pool: Pool, clock: Clock) -> None:
    gateways = [keys_of(pool, clock) for _ in range(8)]
    await asyncio.gather(*(gateway.refresh() for gateway in gateways))
    assert await count(pool) == 1
    first = await tokens_of(gateways[0], clock).make("acc_1", "ses_1", "at_1", "", NOW_MS)
    for gateway in gateways:
        assert await tokens_of(gateway, clock).verify(first) is not None


async def test_a_rotation_is_noticed_by_nobody(pool: Pool, clock: Clock) -> None:
    """Minute by minute across a rotation, each token made by either gateway is good with both until it expires."""
    gateways = [keys_of(pool, clock), keys_of(pool, clock)]
    tokens = [tokens_of(gateway, clock) for gateway in gateways]
    for gateway in gateways:
        await gateway.refresh()
    made: list[str] = []
    used: set[str] = set()
    await gateways[0].rotate()
    for _ in range(2 * (limits.KEY_PUBLISHED_BEFORE_MS + limits.ACCESS_TOKEN_LIFE_MS) // 60_000):
        for maker in tokens:
            made.append(await maker.make("acc_1", "ses_1", "at_1", "", clock.now))
            current = (await maker.keys.ring()).current(clock.now)
            assert current is not None
            used.add(current.key_id)
        for token in made[-2 * 15 :]:
            for checker in tokens:
                assert await checker.verify(token) is not None
        published = {key["kid"] for key in jwks((await gateways[1].ring()).published(clock.now))["keys"]}
        assert used & published
        clock.now += 60_000
    assert len(used) == 2, "the new key has taken over"
    assert await tokens[0].verify(made[0]) is None, "and the old one's tokens have expired"


async def test_a_key_is_published_before_it_signs_and_until_its_last_token_has_expired(
    pool: Pool, clock: Clock
) -> None:
    keys = keys_of(pool, clock)
    await keys.refresh()
    old = (await keys.ring()).keys[0]
    new = await keys.rotate()
    ring = await keys.ring()
    assert new.active_from_ms == clock.now + limits.KEY_PUBLISHED_BEFORE_MS
    assert [key.key_id for key in ring.published(clock.now)] == [old.key_id, new.key_id]
    assert ring.current(new.active_from_ms - 1) == old
    assert ring.current(new.active_from_ms) == new
    last = new.active_from_ms + limits.ACCESS_TOKEN_LIFE_MS + limits.TOKEN_CLOCK_LEEWAY_MS
    assert len(ring.published(last - 1)) == 2
    assert [key.key_id for key in ring.published(last)] == [new.key_id]


async def test_asked_for_twice_there_is_one_next_key(pool: Pool, clock: Clock) -> None:
    here, there = keys_of(pool, clock), keys_of(pool, clock)
    first = await here.rotate()
    assert first.active_from_ms == clock.now, "the first of all signs at once"
    made = await asyncio.gather(here.rotate(), there.rotate(), there.rotate())
    assert len({key.key_id for key in made} | {first.key_id}) == await count(pool) == 2
    clock.now = made[0].active_from_ms
    assert (await there.rotate()).key_id != made[0].key_id


async def test_keys_are_replaced_when_they_grow_old_and_taken_away_when_nothing_needs_them(
    pool: Pool, clock: Clock
) -> None:
    keys = keys_of(pool, clock)
    await keys.refresh()
    clock.now += LIFETIME_MS - limits.KEY_PUBLISHED_BEFORE_MS - 1
    await keys.refresh()
    assert await count(pool) == 1
    clock.now += 1
    await asyncio.gather(keys.refresh(), keys_of(pool, clock).refresh())
    assert await count(pool) == 2, "the next one, made once"
    for _ in range(2):
        clock.now += LIFETIME_MS
        await keys.refresh()
    assert await count(pool) == 2, "those of long ago are gone"


async def test_a_revoked_key_is_good_for_nothing_from_then_on(pool: Pool, clock: Clock) -> None:
    keys, other = keys_of(pool, clock), keys_of(pool, clock)
    await keys.refresh()
    await other.refresh()
    token = await tokens_of(keys, clock).make("acc_1", "ses_1", "at_1", "", clock.now)
    await keys.rotate(is_revoking=True)
    assert await tokens_of(keys, clock).verify(token) is None
    fresh = await tokens_of(keys, clock).make("acc_1", "ses_1", "at_2", "", clock.now)
    assert await tokens_of(keys, clock).verify(fresh) is not None, "the new one signs at once"
    await other.refresh()
    assert await tokens_of(other, clock).verify(token) is None
    assert await tokens_of(other, clock).verify(fresh) is not None


async def test_a_key_that_is_not_known_yet_is_looked_up_once_however_many_are_made_up(pool: Pool, clock: Clock) -> None:
    here, there = keys_of(pool, clock), keys_of(pool, clock)
    await here.refresh()
    await there.refresh()
    await there.rotate(is_revoking=True)
    token = await tokens_of(there, clock).make("acc_1", "ses_1", "at_1", "", clock.now)
    looks = 0
    refresh = here.refresh

    async def counted() -> None:
        nonlocal looks
        looks += 1
        await refresh()

    cast(Any, here).refresh = counted
    found = await asyncio.gather(*(tokens_of(here, clock).verify(token) for _ in range(20)))
    assert all(found)
    assert looks == 1
    await asyncio.gather(*(here.ring_with(f"jwk_{number}") for number in range(100)))
    assert looks == 1, "not again so soon"
    clock.now += limits.KEY_REFETCH_INTERVAL_MS
    await asyncio.gather(*(here.ring_with(f"jwk_{number}") for number in range(100)))
    assert looks == 2


async def test_at_rest_there_is_nothing_to_sign_with(pool: Pool, clock: Clock) -> None:
    keys = keys_of(pool, clock)
    await keys.refresh()
    (key,) = (await keys.ring()).keys
    row = await pool.fetchrow("SELECT * FROM signing_keys")
    assert row is not None
    plain = key.private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    assert plain[:64] not in row["sealed"]
    assert Safe(MASTER, os.urandom).open("jwk_another", row["sealed"]) is None, "it is bound to its id"
    assert Safe(b"n" * 32, os.urandom).open(key.key_id, row["sealed"]) is None
    broken = row["sealed"][:-1] + bytes([row["sealed"][-1] ^ 1])
    assert Safe(MASTER, os.urandom).open(key.key_id, broken) is None


async def test_under_another_master_secret_there_is_a_new_key(pool: Pool, clock: Clock) -> None:
    await keys_of(pool, clock).refresh()
    other = keys_of(pool, clock, b"n" * 32)
    await other.refresh()
    assert (await other.ring()).current(clock.now) is not None
    assert await count(pool) == 2


async def test_without_postgres_known_keys_serve_and_unknown_ones_are_no_error(
    pool: Pool, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, never = keys_of(pool, clock), keys_of(pool, clock)
    tokens = tokens_of(keys, clock)
    token = await tokens.make("acc_1", "ses_1", "at_1", "", clock.now)
    pool.terminate()
    clock.now += limits.KEY_REFETCH_INTERVAL_MS
    assert await tokens.verify(token) is not None
    assert not (await keys.ring_with("jwk_unknown")).knows("jwk_unknown")
    with pytest.raises(StoreUnavailable):
        await tokens_of(never, clock).verify(token)


async def test_the_published_set_has_public_halves_only(pool: Pool, clock: Clock) -> None:
    keys = keys_of(pool, clock)
    (key,) = jwks((await keys.ring()).keys)["keys"]
    assert set(key) == {"kty", "use", "alg", "kid", "n", "e"}
    assert (key["kty"], key["use"], key["alg"], key["e"]) == ("RSA", "sig", "RS256", "AQAB")
