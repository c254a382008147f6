"""Rates and what the gateways make of them: leases on the hot path, named limits, what is said to whom is refused."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest
from structlog.testing import capture_logs

from gateway import limits
from gateway.identity.callers import Caller
from gateway.leases import LeaseBook, chunk_of
from gateway.limiter import Limiter, caller_limit, rate_headers
from gateway.memory_rates import MemoryRates
from gateway.problems import Problem
from gateway.rates import Ask, Grant, Rate, RateStoreAway

DEVICE = Caller("org_a", "device", device_id="dev_1", event_id="evt_1")
OTHER_DEVICE = Caller("org_a", "device", device_id="dev_2", event_id="evt_1")
KEY = Caller("org_a", "api_key", frozenset({"scan"}), key_id="key_1")
FOREIGN_KEY = Caller("org_b", "api_key", frozenset({"scan"}), key_id="key_1")
STAFF = Caller("org_a", "staff", account_id="acc_1")
SUPERADMIN = Caller("", "superadmin", account_id="acc_2")


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_us = 1_000_000_000

    def __call__(self) -> int:
        return self.now_us


class CountingStore:
    """Counts in memory, knows how often it was asked, and can be away."""

    def __init__(self, clock: Clock) -> None:
        self._memory = MemoryRates(clock, 10_000)
        self.asked: list[Sequence[Ask]] = []
        self.is_away = False

    async def take(self, asks: Sequence[Ask]) -> list[Grant]:
        """See `RateStore`."""
        self._note(asks)
        return await self._memory.take(asks)

    async def take_some(self, asks: Sequence[Ask]) -> list[Grant]:
        """See `RateStore`."""
        self._note(asks)
        assert len({ask.key for ask in asks}) == len(asks), "a key must not come twice"
        return await self._memory.take_some(asks)

    def _note(self, asks: Sequence[Ask]) -> None:
        self.asked.append(asks)
        if self.is_away:
            raise RateStoreAway("away")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> CountingStore:
    return CountingStore(clock)


def limiter_of(store: CountingStore, clock: Clock, plan: str = "", **rates: str) -> Limiter:
    named = {name.replace("_", "-"): Rate.parse(rate) for name, rate in rates.items()}
    return Limiter(store, clock, named, lambda _tenant_id: plan)


async def refilled(limiter: Limiter) -> None:
    await limiter._leases.refill()


class TestRate:
    @pytest.mark.parametrize(
        ("text", "interval_us", "burst", "window_s"),
        [
            ("100/s", 10_000, 100, 1),
            ("100/s burst 200", 10_000, 200, 2),
            ("30/min burst 10", 2_000_000, 10, 20),
            ("1000/h", 3_600_000, 1_000, 3_600),
            ("1000000/s", 1, 1_000_000, 1),
            ("3/s burst 1", 333_333, 1, 1),
        ],
    )
    def test_it_is_written_as_people_write_it(self, text: str, interval_us: int, burst: int, window_s: int) -> None:
        rate = Rate.parse(text)
        assert (rate.interval_us, rate.burst, rate.window_s) == (interval_us, burst, window_s)

    @pytest.mark.parametrize(
        "text", ["", "100", "0/s", "-1/s", "100/day", "100/s burst 0", "1.5/s", "2000000/s", "100/s\n", "100/s burst"]
    )
    def test_what_is_no_rate_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"rate|microsecond"):
            Rate.parse(text)


class TestLeases:
    async def test_the_first_operations_need_no_answer_from_the_store(self, store: CountingStore) -> None:
        book = LeaseBook(store)
        lease = book.lease("k", Rate.parse("1000/s burst 5000"))
        passed = 0
        while book.has(lease, 1):
            lease.left -= 1
            passed += 1
        assert passed == lease.chunk == 256
        assert store.asked == []

    async def test_a_refill_pays_what_is_owed_and_fills_up(self, store: CountingStore) -> None:
        book = LeaseBook(store)
        lease = book.lease("k", Rate.parse("1000/s burst 5000"))
        assert book.has(lease, 100)
        lease.left -= 100
        await book.refill()
        assert lease.left == 256
        assert [ask.cost for ask in store.asked[0]] == [356]
        await book.refill()
        assert len(store.asked) == 1, "a full lease is not asked for again"

    async def test_several_gateways_stay_within_the_stated_error(self, clock: Clock, store: CountingStore) -> None:
        rate = Rate.parse("1000/s burst 2000")
        books = [LeaseBook(store) for _ in range(3)]
        choice = random.Random(7)
        passed = 0
        for step in range(1, 2_001):
            for book in books:
                lease = book.lease("k", rate)
                for _ in range(choice.randrange(40)):
                    if book.has(lease, 1):
                        lease.left -= 1
                        passed += 1
                if choice.random() < 0.3:
                    await book.refill()
            clock.now_us += 1_000
            assert passed <= step + rate.burst + 2 * 3 * chunk_of(rate)
        assert passed >= 2_000 + rate.burst - 3 * chunk_of(rate), "nor are they stricter than the limit"

    async def test_the_table_is_bounded(self, store: CountingStore) -> None:
        book = LeaseBook(store, entries_max=3)
        for number in range(10):
            book.has(book.lease(f"k{number}", Rate.parse("1/s")), 1)
        assert len(book) == 3

    async def test_a_key_that_made_room_and_came_back_is_asked_for_once(self, store: CountingStore) -> None:
        book = LeaseBook(store, entries_max=1)
        for key in ("a", "b", "a"):
            assert book.has(book.lease(key, Rate.parse("1/s")), 1)
        await book.refill()
        assert sorted(ask.key for ask in store.asked[0]) == ["a", "b"]

    async def test_run_refills_in_the_background(self, store: CountingStore) -> None:
        book = LeaseBook(store)
        running = asyncio.create_task(book.run())
        lease = book.lease("k", Rate.parse("1000/s burst 5000"))
        assert book.has(lease, 200)
        async with asyncio.timeout(5):
            while lease.left != lease.chunk:  # noqa: ASYNC110
                await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    def test_every_lease_takes_a_whole_frame_of_scans(self) -> None:
        for name, rate in limits.RATES.items():
            if name.startswith("checkins"):
                assert chunk_of(rate) >= 256


class TestAdmit:
    async def test_a_device_is_limited_and_others_are_not(self, store: CountingStore, clock: Clock) -> None:
        limiter = limiter_of(store, clock, checkins_device="10/s burst 20")
        waits = [limiter.admit(DEVICE) for _ in range(21)]
        assert waits == [0] * 20 + [limits.LEASE_RETRY_MS]
        assert limiter.admit(OTHER_DEVICE) == 0
        assert limiter.refused_count == 1

    async def test_the_organisation_is_limited_over_all_its_callers(self, store: CountingStore, clock: Clock) -> None:
        limiter = limiter_of(store, clock, checkins_org="10/s burst 4")
        assert [limiter.admit(caller) for caller in (DEVICE, OTHER_DEVICE, KEY, STAFF)] == [0] * 4
        assert limiter.admit(KEY)
        assert limiter.admit(FOREIGN_KEY) == 0

    async def test_a_refused_check_in_uses_up_nothing(self, store: CountingStore, clock: Clock) -> None:
        limiter = limiter_of(store, clock, checkins_device="1/h burst 2", checkins_org="1/h burst 5")
        assert limiter.admit(DEVICE, 2) == 0
        for _ in range(50):
            assert limiter.admit(DEVICE)
        await refilled(limiter)
        assert [limiter.admit(OTHER_DEVICE) for _ in range(2)] == [0, 0], "of the organisation's 5, 2 are used up"

    async def test_what_was_passed_on_credit_counts(self, store: CountingStore, clock: Clock) -> None:
        limiter = limiter_of(store, clock, checkins_key="1/h burst 10")
        passed = 0
        for _ in range(5):
            while not limiter.admit(KEY):
                passed += 1
            await refilled(limiter)
        assert passed == 10 + 10, "the burst, and one chunk more (rule 3)"

    async def test_the_plan_chooses_the_rate(self, store: CountingStore, clock: Clock) -> None:
        limiter = limiter_of(store, clock, "free", checkins_org="100/s", checkins_org_free="1/s burst 2")
        assert [bool(limiter.admit(DEVICE)) for _ in range(3)] == [False, False, True]


class TestCheck:
    async def test_all_or_none(self, store: CountingStore, clock: Clock) -> None:
        limiter = limiter_of(store, clock, login_ip="1/h burst 3", login_account="1/h burst 1")
        await limiter.check(("login-ip", "192.0.2.1"), ("login-account", "a"))
        with pytest.raises(Problem) as refused:
            await limiter.check(("login-ip", "192.0.2.1"), ("login-account", "a"))
        assert "'login-account'" in refused.value.detail
        assert "'login-ip'" not in refused.value.detail
        standings = await limiter.check(("login-ip", "192.0.2.1"), ("login-account", "b"))
        assert standings[0].grant.remaining == 1

    async def test_a_refusal_says_for_how_long(self, store: CountingStore, clock: Clock) -> None:
        limiter = limiter_of(store, clock, login_ip="30/min burst 1")
        await limiter.check(("login-ip", "x"))
        with pytest.raises(Problem) as refused:
            await limiter.check(("login-ip", "x"))
        problem = refused.value
        assert (problem.row.status, problem.retry_after_ms) == (429, 2_000)
        headers = dict(problem.headers())
        assert headers[b"retry-after"] == b"2"
        assert headers[b"ratelimit-policy"] == b'"login-ip";q=1;w=2'
        assert headers[b"ratelimit"] == b'"login-ip";r=0;t=2'

    async def test_a_key_that_is_used_up_costs_the_store_nothing(self, store: CountingStore, clock: Clock) -> None:
        limiter = limiter_of(store, clock, login_ip="1/s burst 1")
        await limiter.check(("login-ip", "x"))
        for _ in range(10):
            with pytest.raises(Problem):
                await limiter.check(("login-ip", "x"))
        assert len(store.asked) == 2
        assert limiter.used_up_ms("login-ip", "x") == 1_000
        clock.now_us += 1_000_000
        assert limiter.used_up_ms("login-ip", "x") == 0
        await limiter.check(("login-ip", "x"))

    async def test_what_is_given_back_can_be_used_again(self, store: CountingStore, clock: Clock) -> None:
        limiter = limiter_of(store, clock, pairing_failed_ip="1/h burst 1")
        for _ in range(5):
            await limiter.check(("pairing-failed-ip", "x"))
            await limiter.give_back(("pairing-failed-ip", "x"))
        await limiter.check(("pairing-failed-ip", "x"))
        with pytest.raises(Problem):
            await limiter.check(("pairing-failed-ip", "x"))
        await limiter.give_back(("pairing-failed-ip", "x"))
        await limiter.check(("pairing-failed-ip", "x"))

    async def test_a_larger_operation_that_finds_no_room_leaves_room_for_a_smaller(
        self, store: CountingStore, clock: Clock
    ) -> None:
        limiter = limiter_of(store, clock, additions_org="1/h burst 10")
        await limiter.check(("additions-org", "o", 8))
        with pytest.raises(Problem):
            await limiter.check(("additions-org", "o", 5))
        await limiter.check(("additions-org", "o", 2))

    async def test_nobody_shares_with_anybody(self, store: CountingStore, clock: Clock) -> None:
        callers = [DEVICE, OTHER_DEVICE, KEY, FOREIGN_KEY, STAFF, SUPERADMIN]
        assert len({caller_limit(caller) for caller in callers}) == len(callers)
        # A person is one, whatever organisation they call for.
        assert caller_limit(STAFF) == caller_limit(Caller("org_b", "org_admin", account_id="acc_1"))

    async def test_the_headers_are_structured_fields(self, store: CountingStore, clock: Clock) -> None:
        limiter = limiter_of(store, clock, rest_key="100/s burst 200", additions_org="10/s burst 50")
        standings = await limiter.check(("rest-key", "k"), ("additions-org", "o", 25))
        assert rate_headers(standings) == [
            (b"ratelimit-policy", b'"rest-key";q=200;w=2, "additions-org";q=50;w=5'),
            (b"ratelimit", b'"rest-key";r=199;t=1, "additions-org";r=25;t=3'),
        ]


class TestAway:
    async def test_each_gateway_counts_for_itself_and_says_so_once(self, store: CountingStore, clock: Clock) -> None:
        limiter = limiter_of(store, clock, login_ip="1/h burst 3")
        store.is_away = True
        with capture_logs() as lines:
            for _ in range(3):
                await limiter.check(("login-ip", "x"))
                clock.now_us += 2_000_000
            with pytest.raises(Problem):
                await limiter.check(("login-ip", "x"))
            store.is_away = False
            clock.now_us += 2_000_000
            await limiter.check(("login-ip", "y"))
        assert [line["log_level"] for line in lines] == ["warning", "info"]

    async def test_it_is_not_asked_again_at_once(self, store: CountingStore, clock: Clock) -> None:
        limiter = limiter_of(store, clock)
        store.is_away = True
        for _ in range(10):
            await limiter.check(("login-ip", "x"))
        assert len(store.asked) == 1

    async def test_check_ins_go_on(self, store: CountingStore, clock: Clock) -> None:
        limiter = limiter_of(store, clock, checkins_device="1000/s burst 1000")
        store.is_away = True
        for _ in range(1_000):
            assert limiter.admit(DEVICE) == 0
            await refilled(limiter)
        for _ in range(1_000):
            limiter.admit(DEVICE)
            await refilled(limiter)
        assert limiter.refused_count == 1_000 - 256, "the limit holds all the same (on credit: one chunk)"
