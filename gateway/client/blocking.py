"""The same client for plain code: every method of the asynchronous one, which waits for its answer.

Rules:
1. Nothing is done here: each method runs the one of the same name on an event loop in a background thread (`portal`).
2. Any number of threads may share a client.
3. Callbacks of sockets are called in the background thread and must not call the client.
"""

from __future__ import annotations

import functools
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from gateway.client import caller, cards, coupons, events, members, people, rules
from gateway.client.client import CONNECTIONS_MAX, URL_DEFAULT, AsyncClient, AsyncMasterVip
from gateway.client.errors import Json
from gateway.client.link import SOCKET_RETRY, Wire
from gateway.client.live_socket import BACKLOG_MAX, Change, LiveSocket, Position, Subscription
from gateway.client.portal import Portal
from gateway.client.retry import RetryPolicy
from gateway.client.scan_socket import IN_FLIGHT_MAX, ScanSocket

P = ParamSpec("P")
A = TypeVar("A")
T = TypeVar("T")


class Blocking(Generic[A]):
    """Something asynchronous, and the portal to where it lives."""

    def __init__(self, portal: Portal, inner: A) -> None:
        self._portal = portal
        self._inner = inner


def _waits(method: Callable[Concatenate[A, P], Coroutine[Any, Any, T]]) -> Callable[Concatenate[Blocking[A], P], T]:
    """The method, waiting for what it returns."""

    @functools.wraps(method)
    def call(self: Blocking[A], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._portal.run(method(self._inner, *args, **kwargs))

    return call


def _iterates(
    method: Callable[Concatenate[A, P], AsyncIterator[T]],
) -> Callable[Concatenate[Blocking[A], P], Iterator[T]]:
    """The method, giving a plain iterator."""

    @functools.wraps(method)
    def call(self: Blocking[A], /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return self._portal.iterate(method(self._inner, *args, **kwargs))

    return call


class Orgs(Blocking[people.Orgs]):
    """See `people.Orgs`."""

    open = _waits(people.Orgs.open)
    get = _waits(people.Orgs.get)
    all = _iterates(people.Orgs.all)
    change = _waits(people.Orgs.change)
    tiers = _waits(people.Orgs.tiers)
    set_tiers = _waits(people.Orgs.set_tiers)
    remove_tiers = _waits(people.Orgs.remove_tiers)
    leaderboards = _waits(people.Orgs.leaderboards)
    set_leaderboards = _waits(people.Orgs.set_leaderboards)
    member_schema = _waits(people.Orgs.member_schema)
    set_member_schema = _waits(people.Orgs.set_member_schema)
    credential_keys = _waits(people.Orgs.credential_keys)
    close = _waits(people.Orgs.close)
    api_keys = _iterates(people.Orgs.api_keys)
    add_api_key = _waits(people.Orgs.add_api_key)
    rotate_api_key = _waits(people.Orgs.rotate_api_key)
    revoke_api_key = _waits(people.Orgs.revoke_api_key)
    audit_log = _iterates(people.Orgs.audit_log)


class People(Blocking[people.People]):
    """See `people.People`."""

    all = _iterates(people.People.all)
    change_role = _waits(people.People.change_role)
    end_role = _waits(people.People.end_role)
    invite = _waits(people.People.invite)
    invitations = _iterates(people.People.invitations)
    revoke_invitation = _waits(people.People.revoke_invitation)
    accept_invitation = _waits(people.People.accept_invitation)


class Members(Blocking[members.Members]):
    """See `members.Members`."""

    add = _waits(members.Members.add)
    get = _waits(members.Members.get)
    all = _iterates(members.Members.all)
    search = _waits(members.Members.search)
    change = _waits(members.Members.change)
    erase = _waits(members.Members.erase)
    start_import = _waits(members.Members.start_import)
    get_import = _waits(members.Members.get_import)
    cancel_import = _waits(members.Members.cancel_import)


class Cards(Blocking[cards.Cards]):
    """See `cards.Cards`."""

    issue = _waits(cards.Cards.issue)
    issue_many = _waits(cards.Cards.issue_many)
    start_batch = _waits(cards.Cards.start_batch)
    start_batch_from_csv = _waits(cards.Cards.start_batch_from_csv)
    change_many = _waits(cards.Cards.change_many)
    get_batch = _waits(cards.Cards.get_batch)
    cancel_batch = _waits(cards.Cards.cancel_batch)
    batch_result = _iterates(cards.Cards.batch_result)
    batch_report = _iterates(cards.Cards.batch_report)
    get = _waits(cards.Cards.get)
    all = _iterates(cards.Cards.all)
    revocations = _waits(cards.Cards.revocations)
    suspend = _waits(cards.Cards.suspend)
    resume = _waits(cards.Cards.resume)
    revoke = _waits(cards.Cards.revoke)
    reissue = _waits(cards.Cards.reissue)
    renew = _waits(cards.Cards.renew)
    tier = _waits(cards.Cards.tier)
    set_tier = _waits(cards.Cards.set_tier)
    assign_tag = _waits(cards.Cards.assign_tag)
    remove_tag = _waits(cards.Cards.remove_tag)
    tag_keys = _waits(cards.Cards.tag_keys)
    credential = _waits(cards.Cards.credential)
    credential_file = _waits(cards.Cards.credential_file)
    rotating_credential = _waits(cards.Cards.rotating_credential)
    note = _waits(cards.Cards.note)
    balance = _waits(cards.Cards.balance)
    ledger = _iterates(cards.Cards.ledger)
    award = _waits(cards.Cards.award)
    redeem = _waits(cards.Cards.redeem)
    reverse = _waits(cards.Cards.reverse)
    statement = _waits(cards.Cards.statement)
    confirm = _waits(cards.Cards.confirm)
    hold = _waits(cards.Cards.hold)
    capture = _waits(cards.Cards.capture)
    release = _waits(cards.Cards.release)
    transfer = _waits(cards.Cards.transfer)
    top_up = _waits(cards.Cards.top_up)
    pay = _waits(cards.Cards.pay)


class Coupons(Blocking[coupons.Coupons]):
    """See `coupons.Coupons`."""

    define = _waits(coupons.Coupons.define)
    get = _waits(coupons.Coupons.get)
    all = _iterates(coupons.Coupons.all)
    change = _waits(coupons.Coupons.change)
    issue = _waits(coupons.Coupons.issue)
    codes = _iterates(coupons.Coupons.codes)
    of_card = _iterates(coupons.Coupons.of_card)
    redemptions = _iterates(coupons.Coupons.redemptions)
    redeem = _waits(coupons.Coupons.redeem)
    redeem_granted = _waits(coupons.Coupons.redeem_granted)
    redemption = _waits(coupons.Coupons.redemption)
    capture = _waits(coupons.Coupons.capture)
    release = _waits(coupons.Coupons.release)
    roll_back = _waits(coupons.Coupons.roll_back)


class Rules(Blocking[rules.Rules]):
    """See `rules.Rules`."""

    make = _waits(rules.Rules.make)
    get = _waits(rules.Rules.get)
    all = _iterates(rules.Rules.all)
    change = _waits(rules.Rules.change)
    set_state = _waits(rules.Rules.set_state)
    delete = _waits(rules.Rules.delete)
    versions = _iterates(rules.Rules.versions)
    version = _waits(rules.Rules.version)
    simulate = _waits(rules.Rules.simulate)
    schema = _waits(rules.Rules.schema)
    templates = _iterates(rules.Rules.templates)
    fill = _waits(rules.Rules.fill)


class Events(Blocking[events.Events]):
    """See `events.Events`."""

    create = _waits(events.Events.create)
    get = _waits(events.Events.get)
    all = _iterates(events.Events.all)
    change = _waits(events.Events.change)
    add_gate = _waits(events.Events.add_gate)
    change_gate = _waits(events.Events.change_gate)
    attendance = _waits(events.Events.attendance)
    annul = _waits(events.Events.annul)
    exit_all = _waits(events.Events.exit_all)
    change_admission_list = _waits(events.Events.change_admission_list)
    admission_list = _iterates(events.Events.admission_list)
    answer = _waits(events.Events.answer)
    conflicts = _iterates(events.Events.conflicts)
    scan_log = _iterates(events.Events.scan_log)
    scan_log_csv = _iterates(events.Events.scan_log_csv)
    export_scans = _iterates(events.Events.export_scans)
    statistics = _waits(events.Events.statistics)


class Devices(Blocking[events.Devices]):
    """See `events.Devices`."""

    add = _waits(events.Devices.add)
    pair = _waits(events.Devices.pair)
    pair_again = _waits(events.Devices.pair_again)
    get = _waits(events.Devices.get)
    all = _iterates(events.Devices.all)
    change = _waits(events.Devices.change)
    itself = _waits(events.Devices.itself)
    choose_gate = _waits(events.Devices.choose_gate)
    revoke = _waits(events.Devices.revoke)


class Checkins(Blocking[events.Checkins]):
    """See `events.Checkins`."""

    one = _waits(events.Checkins.one)
    many = _waits(events.Checkins.many)


class Leaderboards(Blocking[events.Leaderboards]):
    """See `events.Leaderboards`."""

    get = _waits(events.Leaderboards.get)
    pay_out = _waits(events.Leaderboards.pay_out)
    payout = _waits(events.Leaderboards.payout)


class BlockingScanSocket(Blocking[ScanSocket]):
    """See `ScanSocket`."""

    scan = _waits(ScanSocket.scan)
    scan_many = _waits(ScanSocket.scan_many)
    again = _waits(ScanSocket.again)
    annul = _waits(ScanSocket.annul)
    wait_closed = _waits(ScanSocket.wait_closed)
    wait_clock = _waits(ScanSocket.wait_clock)
    close = _waits(ScanSocket.aclose)

    @property
    def welcome(self) -> Json:
        """The server's newest welcome."""
        return self._inner.welcome

    @property
    def attendance(self) -> Json | None:
        """The newest counts."""
        return self._inner.attendance

    @property
    def cursor(self) -> str | None:
        """How far the list of revoked cards has come."""
        return self._inner.cursor

    @property
    def is_open(self) -> bool:
        """Whether there is a connection at the moment."""
        return self._inner.is_open

    @property
    def clock_offset_ms(self) -> float:
        """How far the server's clock is ahead of this machine's."""
        return self._inner.clock_offset_ms

    @property
    def clock_is_known(self) -> bool:
        """Whether the server's clock has been measured."""
        return self._inner.clock_is_known

    def __enter__(self) -> Self:
        self._portal.run(self._inner.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class BlockingSubscription(Blocking[Subscription]):
    """See `Subscription`: iterate over it."""

    def __iter__(self) -> Iterator[Change]:
        return self._portal.iterate(self._inner)

    def unsubscribe(self) -> None:
        """Ends it."""
        self._portal.run(_called(self._inner.unsubscribe))


class BlockingLiveSocket(Blocking[LiveSocket]):
    """See `LiveSocket`."""

    wait_closed = _waits(LiveSocket.wait_closed)
    close = _waits(LiveSocket.aclose)

    @property
    def is_open(self) -> bool:
        """Whether there is a connection at the moment."""
        return self._inner.is_open

    def subscribe(self, topic: str, since: Position | None = None) -> BlockingSubscription:
        """A topic's changes."""
        subscription = self._portal.run(_called(lambda: self._inner.subscribe(topic, since)))
        return BlockingSubscription(self._portal, subscription)

    def __enter__(self) -> Self:
        self._portal.run(self._inner.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Client(Blocking[AsyncClient]):
    """See `AsyncClient`."""

    exchange = _waits(caller.Caller.exchange)
    request = _waits(caller.Caller.request)
    edit = _waits(caller.Caller.edit)
    pages = _iterates(caller.Caller.pages)
    items = _iterates(caller.Caller.items)
    register = _waits(AsyncClient.register)
    verify = _waits(AsyncClient.verify)
    login = _waits(AsyncClient.login)
    logout = _waits(AsyncClient.logout)
    me = _waits(AsyncClient.me)
    change_me = _waits(AsyncClient.change_me)
    check_in = _waits(AsyncClient.check_in)

    def __init__(self, portal: Portal, inner: AsyncClient) -> None:
        super().__init__(portal, inner)
        self.orgs = Orgs(portal, inner.orgs)
        self.people = People(portal, inner.people)
        self.members = Members(portal, inner.members)
        self.cards = Cards(portal, inner.cards)
        self.coupons = Coupons(portal, inner.coupons)
        self.rules = Rules(portal, inner.rules)
        self.events = Events(portal, inner.events)
        self.devices = Devices(portal, inner.devices)
        self.checkins = Checkins(portal, inner.checkins)
        self.leaderboards = Leaderboards(portal, inner.leaderboards)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """See `AsyncClient.aclose`."""
        self._portal.run(self._inner.aclose())

    @property
    def base_url(self) -> str:
        """Where the system is."""
        return self._inner.base_url

    def new_id(self) -> str:
        """A new request id (UUIDv7), to be kept before it is used."""
        return self._inner.new_id()

    def acting_as(self, token: str | None) -> Client:
        """A client with another token over the same connections; of use until those are closed."""
        return Client(self._portal, self._inner.acting_as(token))

    def scan_socket(
        self,
        event_id: str | None = None,
        *,
        gate_id: str | None = None,
        on_attendance: Callable[[Json], None] | None = None,
        on_revoked: Callable[[Json], None] | None = None,
        resume: str | None = None,
        in_flight_max: int = IN_FLIGHT_MAX,
        wire: Wire = "msgpack",
        retry: RetryPolicy = SOCKET_RETRY,
    ) -> BlockingScanSocket:
        """A scanner's socket; enter it to connect."""
        inner = self._inner.scan_socket(
            event_id,
            gate_id=gate_id,
            on_attendance=on_attendance,
            on_revoked=on_revoked,
            resume=resume,
            in_flight_max=in_flight_max,
            wire=wire,
            retry=retry,
        )
        return BlockingScanSocket(self._portal, inner)

    def live_socket(
        self, *, backlog_max: int = BACKLOG_MAX, wire: Wire = "msgpack", retry: RetryPolicy = SOCKET_RETRY
    ) -> BlockingLiveSocket:
        """The live socket; enter it to connect."""
        inner = self._inner.live_socket(backlog_max=backlog_max, wire=wire, retry=retry)
        return BlockingLiveSocket(self._portal, inner)


class MasterVip(Client):
    """`AsyncMasterVip` for plain code; close it in the end, or use it as a context manager."""

    def __init__(
        self,
        base_url: str = URL_DEFAULT,
        token: str | None = None,
        *,
        retry: RetryPolicy | None = None,
        connections_max: int = CONNECTIONS_MAX,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        inner = AsyncMasterVip(base_url, token, retry=retry, connections_max=connections_max, ssl_context=ssl_context)
        super().__init__(Portal(), inner)

    def close(self) -> None:
        """Ends all that is under way, the connections and the thread. Closing again does nothing."""
        if self._portal.is_closed:
            return
        try:
            super().close()
        finally:
            self._portal.close()


async def _called(work: Callable[[], T]) -> T:
    """Has `work` done in the loop's thread."""
    return work()
