"""Answering queries from what is in memory, or saying what must be loaded first. Nothing here costs a journal write."""

from __future__ import annotations

from actors.board import BOARDS, terms_of
from actors.board_facts import payout_id_of
from actors.calendar import local_day
from actors.card import Card
from actors.coupon import Coupon, Redemption
from actors.event import Event
from actors.judge import Judge
from actors.live import Views
from actors.live_sources import BoardSource
from actors.payout import Payout
from actors.queries import (
    BOARD_ROWS_MAX,
    CARD_TOPIC,
    EVENT_TOPIC,
    REVOCATIONS_TOPIC,
    GetBoard,
    GetCard,
    GetCardTier,
    GetCoupon,
    GetEvent,
    GetPayout,
    GetRedemption,
    GetRules,
    GetTenant,
    GetTopic,
    Query,
    board_of_topic,
    event_of_window,
)
from actors.refusals import BOARD_UNKNOWN
from actors.replies import (
    CardView,
    CouponView,
    Digest,
    EventView,
    Failed,
    PayoutView,
    RedemptionView,
    Reply,
    RulesView,
    TenantView,
    TierView,
    VisitCounts,
)
from actors.tenant import Tenant
from actors.tiers import standing_at, window_points
from actors.visits import visits_on
from actors.waiting import Known, Wants
from actors.windows import NoWindow, board_key, metric_and_window, resolved


class Viewer:
    """Answers queries; `digests` gathers the live updates that an answer brought forward."""

    def __init__(self, judge: Judge, views: Views) -> None:
        self._judge = judge
        self._views = views
        self.digests: list[Digest] = []

    def answer(self, query: Query, now_ms: int, known: Known | None, wants: Wants) -> Reply | None:
        """The answer, or None: `wants` tells what must be loaded."""
        tenant = self._judge.tenant(query.tenant_id, known, wants)
        if tenant is None or isinstance(tenant, Failed):
            return tenant
        match query:
            case GetTenant():
                return TenantView(tenant.tenant_id, tenant.name, tenant.settings, tenant.cards)
            case GetRules():
                return RulesView(tenant.rulebook.rules, dict(tenant.rule_points), dict(tenant.rule_failures))
            case GetCard():
                card = self._judge.card(query.tenant_id, query.card_id, known, wants)
                return _card_view(card, tenant, now_ms) if isinstance(card, Card) else card
            case GetCardTier():
                card = self._judge.card(query.tenant_id, query.card_id, known, wants)
                return _tier_view(card, tenant, now_ms) if isinstance(card, Card) else card
            case GetEvent():
                event = self._judge.event(query.tenant_id, query.event_id, known, wants)
                return _event_view(event) if isinstance(event, Event) else event
            case GetBoard():
                found = self._board(tenant, query.board, query.window, now_ms, known, wants)
                if found is None or isinstance(found, Failed):
                    return found
                limit = max(1, min(query.limit, BOARD_ROWS_MAX))
                _, window = metric_and_window(found.key)
                rows = (limit, max(0, query.offset), query.around)
                return found.board.view(query.board, window, *rows, is_shared=found.is_shared)
            case GetCoupon():
                coupon = self._judge.coupon(query.tenant_id, query.coupon_id, known, wants)
                if not isinstance(coupon, Coupon):
                    return coupon
                return CouponView(coupon.tenant_id, coupon.coupon_id, coupon.terms, coupon.counts)
            case GetRedemption():
                redemption = self._judge.redemption(query.tenant_id, query.redemption_id, known, wants)
                return _redemption_view(redemption) if isinstance(redemption, Redemption) else redemption
            case GetPayout():
                payout_id = payout_id_of(query.tenant_id, query.board, query.window)
                payout = self._judge.payout(query.tenant_id, payout_id, known, wants)
                if not isinstance(payout, Payout):
                    return payout
                return PayoutView(payout.tenant_id, payout.board, payout.window, payout.paid_at_ms, payout.winners)
            case GetTopic():
                return self._topic(tenant, query, now_ms, known, wants)

    def _board(
        self, tenant: Tenant, name: str, window: str, now_ms: int, known: Known | None, wants: Wants
    ) -> BoardSource | Failed | None:
        terms = terms_of(name, tenant.settings.boards)
        if terms is None:
            names = ", ".join(one.name for one in (*BOARDS, *tenant.settings.boards))
            return Failed(BOARD_UNKNOWN, f"no board {name!r}; there is {names}")
        event_id = event_of_window(window)
        if event_id:
            event = self._judge.event(tenant.tenant_id, event_id, known, wants)
            if not isinstance(event, Event):
                return event
        else:
            try:
                window = resolved(window, local_day(now_ms, tenant.settings.time_zone))
            except NoWindow as error:
                return Failed(BOARD_UNKNOWN, str(error))
        key = board_key(terms.metric, window)
        board = self._views.board(tenant.tenant_id, key)
        if board is None:
            wants.boards.add((tenant.tenant_id, key))
            return None
        return BoardSource(board, key, name, is_shared=terms.is_shared)

    def _topic(self, tenant: Tenant, query: GetTopic, now_ms: int, known: Known | None, wants: Wants) -> Reply | None:
        if query.topic.startswith(EVENT_TOPIC):
            event = self._judge.event(tenant.tenant_id, query.topic.removeprefix(EVENT_TOPIC), known, wants)
            if not isinstance(event, Event):
                return event
            topic = self._views.event_topic(event)
        elif query.topic.startswith(CARD_TOPIC):
            card = self._judge.card(tenant.tenant_id, query.topic.removeprefix(CARD_TOPIC), known, wants)
            if not isinstance(card, Card):
                return card
            topic = self._views.card_topic(card)
        elif query.topic == REVOCATIONS_TOPIC:
            topic = self._views.revocations_topic(tenant.tenant_id)
        else:
            name, window = board_of_topic(query.topic)
            found = self._board(tenant, name, window, now_ms, known, wants)
            if found is None or isinstance(found, Failed):
                return found
            topic = self._views.board_topic(tenant.tenant_id, query.topic, found)
        view, digest = topic.watch(now_ms, self._views.durable_seq, query.since_epoch, query.since_offset)
        if digest is not None:
            self.digests.append(digest)
        return view


def _card_view(card: Card, tenant: Tenant, now_ms: int) -> CardView:
    came = visits_on(card.visits, local_day(now_ms, tenant.settings.time_zone))
    return CardView(
        card.tenant_id,
        card.card_id,
        card.member_id,
        card.member_name,
        standing_at(tenant, card, now_ms).tier,
        card.state,
        card.valid_from_ms,
        card.valid_until_ms,
        card.balance,
        card.available(now_ms),
        card.earned,
        card.entry_count,
        card.lots,
        card.pending(now_ms),
        card.wallet,
        card.wallet_available(now_ms),
        tuple(hold for hold in card.holds if hold.lapses_at_ms > now_ms),
        card.serial,
        card.number,
        card.tag_uid,
        VisitCounts(card.visits.ever, *came, card.visits.best_streak),
    )


def _redemption_view(redemption: Redemption) -> RedemptionView:
    return RedemptionView(
        redemption.tenant_id,
        redemption.redemption_id,
        redemption.coupon_id,
        redemption.card_id,
        redemption.bill,
        redemption.state,
        redemption.hold_until_ms,
        redemption.value,
        redemption.points_seq,
        redemption.changed_at_ms,
    )


def _tier_view(card: Card, tenant: Tenant, now_ms: int) -> TierView:
    tier, due_ms, is_held = standing_at(tenant, card, now_ms)
    points = window_points(tenant, card, now_ms)
    who = (card.tenant_id, card.card_id, card.member_id)
    return TierView(*who, tier, points, due_ms, is_held, tenant.settings.tiers)


def _event_view(event: Event) -> EventView:
    return EventView(
        event.tenant_id,
        event.event_id,
        event.terms,
        event.inside,
        event.admitted,
        event.refused,
        event.position,
        dict(event.zones),
        event.session_id,
    )
