"""Live topics: what watchers of an event or a leaderboard are told, and how they find their place again.

Rules:
1. Topics show durable facts only; they are fed when an entry's append is done, never before.
2. Offsets grow by one with each update within an epoch (a partition's epoch); a new epoch starts from a snapshot. A
   topic that was put away and comes back begins above all offsets it had, so that nobody takes up at a wrong place.
3. Only watched topics publish: asking for a topic watches it for `WATCHED_MS`. What happened unwatched is caught up
   at the next look.
4. At most one update per topic in `PUBLISH_INTERVAL_MS`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from actors.board import Board
from actors.event import Event
from actors.facts import CardHolderRenamed, EventChanged, Fact, PointsPosted, ScanJudged
from actors.ids import seq_of
from actors.limits import Limits
from actors.replies import BoardView, Digest, EventFeed, ScanSummary, TopicView, Update
from actors.terms import EventTerms

WATCHED_MS = 30_000
PUBLISH_INTERVAL_MS = 100
FEED_SCANS_MAX = 20
UPDATES_KEPT = 128
TOP_ROWS = 10


class Feed:
    """What topic "event:ID" shows: counts and the last scans. It begins with the event as it is in memory, which may
    be ahead of what is durable: it is published once that has caught up with `since_seq`."""

    def __init__(self, event: Event) -> None:
        self.event_id = event.event_id
        self.name = event.terms.name
        self.inside = event.inside
        self.admitted = event.admitted
        self.refused = event.refused
        self.capacity = event.terms.capacity
        self.gates = event.terms.gates
        self.position = event.position
        self.since_seq = seq_of(event.position)
        self.scans: deque[ScanJudged] = deque(maxlen=FEED_SCANS_MAX)
        self.fresh = 0

    def take(self, fact: ScanJudged, position: int) -> None:
        """Takes in a durable scan."""
        self.scans.append(fact)
        self.fresh = min(self.fresh + 1, FEED_SCANS_MAX)
        if position <= self.position:
            return
        self.inside = fact.inside
        self.admitted = fact.admitted
        self.refused = fact.refused
        self.capacity = fact.capacity
        self.position = position

    def state(self, scans: int) -> EventFeed:
        """The counts with the last `scans` scans."""
        shown = list(self.scans)[-scans:] if scans else []
        names = {gate.gate_id: gate.name for gate in self.gates}
        return EventFeed(
            self.event_id,
            self.name,
            self.inside,
            self.admitted,
            self.refused,
            self.capacity,
            self.position,
            tuple(_summary(fact, names.get(fact.gate_id, "")) for fact in shown),
        )


def _summary(fact: ScanJudged, gate_name: str) -> ScanSummary:
    return ScanSummary(
        fact.request_id,
        fact.at_ms,
        not fact.reason,
        fact.reason,
        fact.direction,
        fact.card_id,
        fact.member_name,
        fact.tier,
        fact.gate_id,
        fact.device_id,
        fact.points_awarded,
        gate_name,
    )


class Topic:
    """One live topic with the updates that a returning subscriber may have missed."""

    def __init__(self, tenant_id: str, name: str, epoch: int, offset: int, source: Feed | BoardSource) -> None:
        self.tenant_id = tenant_id
        self.name = name
        self.source = source
        self.is_dirty = False
        self.watched_until_ms = 0
        self._epoch = epoch
        self.offset = offset
        self._published_ms = 0
        self._kept: deque[Update] = deque(maxlen=UPDATES_KEPT)

    def watch(
        self, now_ms: int, durable_seq: int, since_epoch: int, since_offset: int
    ) -> tuple[TopicView, Digest | None]:
        """Where a subscriber stands, and the update that brings everyone there, if one was due."""
        self.watched_until_ms = now_ms + WATCHED_MS
        digest = self._publish(now_ms) if self.is_dirty and durable_seq >= self.source.since_seq else None
        oldest = self.offset - len(self._kept)
        if since_epoch == self._epoch and oldest <= since_offset <= self.offset:
            missed = tuple(update for update in self._kept if update.offset > since_offset)
            return TopicView(self.name, self._epoch, self.offset, True, None, missed), digest
        return TopicView(self.name, self._epoch, self.offset, False, self._state()), digest

    def due(self, now_ms: int, durable_seq: int) -> Digest | None:
        """The update to publish now, if the topic changed, is watched, and was not published just before."""
        if not self.is_dirty or now_ms > self.watched_until_ms or now_ms - self._published_ms < PUBLISH_INTERVAL_MS:
            return None
        return self._publish(now_ms) if durable_seq >= self.source.since_seq else None

    def _publish(self, now_ms: int) -> Digest:
        self.is_dirty = False
        self._published_ms = now_ms
        self.offset += 1
        if isinstance(self.source, Feed):
            data: EventFeed | BoardView = self.source.state(self.source.fresh)
            self.source.fresh = 0
        else:
            data = self.source.state()
        update = Update(self.offset, data)
        self._kept.append(update)
        return Digest(self.tenant_id, self.name, self._epoch, update)

    def _state(self) -> EventFeed | BoardView:
        return self.source.state(FEED_SCANS_MAX) if isinstance(self.source, Feed) else self.source.state()


class BoardSource:
    """What topic "leaderboard:BOARD[:WINDOW]" shows: the top rows. A board only ever holds what is durable."""

    since_seq = 0

    def __init__(self, board: Board, name: str, window: str) -> None:
        self.board = board
        self.window = window
        self._name = name

    def state(self) -> BoardView:
        """The top rows now."""
        return self.board.view(self._name, self.window, TOP_ROWS, 0, "")


class Views:
    """All that is shown of one partition: feeds, boards and topics."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch
        self.durable_seq = 0
        self._offset_start = 0
        self._feeds: dict[str, Feed] = {}
        self._topics: dict[tuple[str, str], Topic] = {}
        # tenant -> window -> board; a tenant without boards costs one look-up a fact.
        self._boards: dict[str, dict[str, Board]] = {}
        self._by_feed: dict[str, Topic] = {}
        self._by_board: dict[tuple[str, str], list[Topic]] = {}

    @property
    def board_count(self) -> int:
        """How many boards are in memory."""
        return sum(len(boards) for boards in self._boards.values())

    @property
    def feed_count(self) -> int:
        """How many events' feeds are in memory."""
        return len(self._feeds)

    def take(self, fact: Fact, position: int, events: Mapping[str, Event]) -> None:
        """Takes in a durable fact; `events` are those in memory."""
        if isinstance(fact, ScanJudged):
            self.take_scan(fact, position, events.get(fact.event_id))
        elif isinstance(fact, EventChanged):
            self.take_terms(fact.event_id, fact.terms, position)
        else:
            self.take_score(fact, position)

    def take_score(self, fact: Fact, position: int) -> None:
        """Takes in what a durable fact changes on boards, if anything."""
        if isinstance(fact, PointsPosted):
            self.take_points(fact, position)
        elif isinstance(fact, CardHolderRenamed):
            self.take_name(fact)

    def take_scan(self, fact: ScanJudged, position: int, event: Event | None) -> None:
        """Takes in a durable scan; `event` is its event, if in memory."""
        feed = self._feeds.get(fact.event_id)
        if feed is None:
            if event is None:
                return
            feed = self._feeds[fact.event_id] = Feed(event)
        feed.take(fact, position)
        topic = self._by_feed.get(fact.event_id)
        if topic is not None:
            topic.is_dirty = True

    def take_terms(self, event_id: str, terms: EventTerms, position: int) -> None:
        """Takes in a durable change of an event's terms."""
        feed = self._feeds.get(event_id)
        if feed is not None:
            if position > feed.position:
                feed.name, feed.capacity, feed.gates = terms.name, terms.capacity, terms.gates
            topic = self._by_feed.get(event_id)
            if topic is not None:
                topic.is_dirty = True

    def take_points(self, fact: PointsPosted, position: int) -> None:
        """Takes in a durable posting."""
        boards = self._boards.get(fact.tenant_id)
        if not boards:
            return
        self._score(boards, fact, "all", fact.earned_after, position)
        self._score(boards, fact, f"day:{fact.day}", fact.day_earned_after, position)
        if fact.event_id:
            self._score(boards, fact, f"event:{fact.event_id}", fact.event_earned_after, position)

    def _score(self, boards: dict[str, Board], fact: PointsPosted, window: str, score: int, position: int) -> None:
        board = boards.get(window)
        if board is None:
            return
        board.set(fact.card_id, fact.member_name, score, position)
        for topic in self._by_board.get((fact.tenant_id, window), ()):
            topic.is_dirty = True

    def take_name(self, fact: CardHolderRenamed) -> None:
        """Takes in a durable change of name."""
        for window, board in self._boards.get(fact.tenant_id, {}).items():
            if board.rename(fact.card_id, fact.member_name):
                for topic in self._by_board.get((fact.tenant_id, window), ()):
                    topic.is_dirty = True

    def board(self, tenant_id: str, window: str) -> Board | None:
        """A board in memory."""
        return self._boards.get(tenant_id, {}).get(window)

    def add_board(self, tenant_id: str, window: str, board: Board) -> None:
        """Takes a loaded board in."""
        self._boards.setdefault(tenant_id, {})[window] = board

    def event_topic(self, event: Event) -> Topic:
        """The topic of an event."""
        topic = self._by_feed.get(event.event_id)
        if topic is None:
            feed = self._feeds.get(event.event_id)
            if feed is None:
                feed = self._feeds[event.event_id] = Feed(event)
            name = f"event:{event.event_id}"
            topic = self._by_feed[event.event_id] = Topic(event.tenant_id, name, self._epoch, self._offset_start, feed)
            self._topics[(event.tenant_id, name)] = topic
        return topic

    def board_topic(self, tenant_id: str, name: str, board_name: str, window: str, board: Board) -> Topic:
        """The topic of a leaderboard; `window` is resolved, so topic "…:day" moves to the new day's board at the
        first look."""
        topic = self._topics.get((tenant_id, name))
        if topic is None:
            source = BoardSource(board, board_name, window)
            topic = Topic(tenant_id, name, self._epoch, self._offset_start, source)
            self._topics[(tenant_id, name)] = topic
            self._by_board.setdefault((tenant_id, window), []).append(topic)
        elif isinstance(topic.source, BoardSource) and topic.source.board is not board:
            self._by_board[(tenant_id, topic.source.window)].remove(topic)
            topic.source = BoardSource(board, board_name, window)
            topic.is_dirty = True
            self._by_board.setdefault((tenant_id, window), []).append(topic)
        return topic

    def due(self, now_ms: int) -> list[Digest]:
        """All updates to publish now."""
        digests = []
        for topic in self._topics.values():
            if topic.is_dirty:
                digest = topic.due(now_ms, self.durable_seq)
                if digest is not None:
                    digests.append(digest)
        return digests

    def _drop_feeds(self, now_ms: int, feeds_max: int) -> None:
        if len(self._feeds) <= feeds_max:
            return
        for event_id in list(self._feeds):
            topic = self._by_feed.get(event_id)
            if topic is None or topic.watched_until_ms < now_ms - WATCHED_MS:
                del self._feeds[event_id]
                if topic is not None:
                    del self._by_feed[event_id]
                    del self._topics[(topic.tenant_id, topic.name)]
                    self._offset_start = max(self._offset_start, topic.offset + 1)

    def drop_unwatched(self, now_ms: int, limits: Limits) -> None:
        """Puts away what nobody watches: topics of boards at once, boards and feeds over their limits."""
        for (tenant_id, name), topic in list(self._topics.items()):
            if topic.watched_until_ms < now_ms - WATCHED_MS and isinstance(topic.source, BoardSource):
                del self._topics[(tenant_id, name)]
                self._offset_start = max(self._offset_start, topic.offset + 1)
                self._by_board[(tenant_id, topic.source.window)].remove(topic)
        self._by_board = {key: topics for key, topics in self._by_board.items() if topics}
        self._drop_feeds(now_ms, limits.events_resident_max)
        if self.board_count <= limits.boards_resident_max:
            return
        watched = {key for key, topics in self._by_board.items() if topics}
        for tenant_id, boards in self._boards.items():
            for window in [window for window in boards if (tenant_id, window) not in watched]:
                del boards[window]
