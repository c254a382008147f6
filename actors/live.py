"""Live topics: what watchers of an event, a leaderboard, a card or the revocations are told, and how they find their
place again.

Rules:
1. Topics show durable facts only; they are fed when an entry's append is done, never before.
2. Offsets grow by one with each update within an epoch (a partition's epoch); a new epoch starts from a snapshot. A
   topic that was put away and comes back begins above all offsets it had, so that nobody takes up at a wrong place.
3. Only watched topics publish: asking for a topic watches it for `WATCHED_MS`. What happened unwatched is caught up
   at the next look.
4. At most one update per topic in `PUBLISH_INTERVAL_MS`, and less often where many topics change at once: each update
   is encoded, published and read by every gateway, and doors go before boards.
5. A topic that did not change costs nothing, however many there are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from actors.board import Board, PartsBoard
from actors.card import Card
from actors.card_facts import CardReissued
from actors.door_facts import EveryoneLeft, ScanAnnulled
from actors.entry import Entry
from actors.event import Event
from actors.facts import CardHolderRenamed, CardStateChanged, EventChanged, Fact, PointsPosted, ScanJudged
from actors.ids import position_of
from actors.limits import Limits
from actors.live_sources import BoardSource, CardFeedFact, CardSource, Feed, RevocationSource, Source
from actors.queries import CARD_TOPIC, EVENT_TOPIC, REVOCATIONS_TOPIC
from actors.replies import Digest, TopicView, Update
from actors.rule_facts import RulesApplied
from actors.terms import EventTerms
from actors.windows import ALL_WINDOW, EVENT_WINDOW, board_key, keys_of_part

WATCHED_MS = 30_000
PUBLISH_INTERVAL_MS = 100
PUBLISH_INTERVAL_MS_MAX = 500
# Each topic that changes adds so much to the interval of all.
PUBLISH_INTERVAL_MS_PER_TOPIC = 4
UPDATES_KEPT = 128
# How often topics that nobody watches are looked for.
TIDY_INTERVAL_MS = 1_000

TopicKey = tuple[str, str]

_ALL_POINTS = board_key("points", ALL_WINDOW)
_EVENT_POINTS = board_key("points", EVENT_WINDOW)


class Topic:
    """One live topic with the updates that a returning subscriber may have missed. `dirty` is where it enters itself
    while it has something to publish."""

    def __init__(self, key: TopicKey, epoch: int, offset: int, source: Source, dirty: dict[TopicKey, Topic]) -> None:
        self.key = key
        self.source = source
        self.is_dirty = False
        self.watched_until_ms = 0
        self.offset = offset
        self._epoch = epoch
        self._dirty = dirty
        self._published_ms = 0
        self._kept: deque[Update] = deque(maxlen=UPDATES_KEPT)

    def touch(self) -> None:
        """Its source has changed."""
        self.is_dirty = True
        self._dirty[self.key] = self

    def watch(
        self, now_ms: int, durable_seq: int, since_epoch: int, since_offset: int
    ) -> tuple[TopicView, Digest | None]:
        """Where a subscriber stands, and the update that brings everyone there, if one was due."""
        self.watched_until_ms = now_ms + WATCHED_MS
        digest = self._publish(now_ms, durable_seq) if self.is_dirty and durable_seq >= self.source.since_seq else None
        if self.is_dirty:
            self.touch()
        name = self.key[1]
        oldest = self.offset - len(self._kept)
        if since_epoch == self._epoch and oldest <= since_offset <= self.offset:
            missed = tuple(update for update in self._kept if update.offset > since_offset)
            return TopicView(name, self._epoch, self.offset, True, None, missed), digest
        return TopicView(name, self._epoch, self.offset, False, self.source.snapshot(durable_seq)), digest

    def due(self, now_ms: int, durable_seq: int, interval_ms: int) -> Digest | None:
        """The update to publish now, if the topic was not published within the interval."""
        if now_ms - self._published_ms < interval_ms or durable_seq < self.source.since_seq:
            return None
        return self._publish(now_ms, durable_seq)

    def _publish(self, now_ms: int, durable_seq: int) -> Digest:
        self._published_ms = now_ms
        self.offset += 1
        update = Update(self.offset, self.source.update(durable_seq))
        self.is_dirty = self.source.has_more
        self._kept.append(update)
        return Digest(*self.key, self._epoch, update)


class Views:
    """All that is shown of one partition: feeds, boards and topics."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch
        self.durable_seq = 0
        self._offset_start = 0
        self._tidied_ms = 0
        self._feeds: dict[str, Feed] = {}
        self._topics: dict[TopicKey, Topic] = {}
        self._dirty: dict[TopicKey, Topic] = {}
        # tenant -> key (`actors.windows`) -> board; a tenant without boards costs one look-up a fact.
        self._boards: dict[str, dict[str, Board]] = {}
        self._by_feed: dict[str, Topic] = {}
        self._by_board: dict[tuple[str, str], list[Topic]] = {}
        self._cards: dict[str, tuple[Topic, CardSource]] = {}
        self._revocations: dict[str, tuple[Topic, RevocationSource]] = {}

    @property
    def board_count(self) -> int:
        """How many boards are in memory."""
        return sum(len(boards) for boards in self._boards.values())

    @property
    def feed_count(self) -> int:
        """How many events' feeds are in memory."""
        return len(self._feeds)

    @property
    def topic_count(self) -> int:
        """How many topics are in memory."""
        return len(self._topics)

    # --- what happens -------------------------------------------------------------------------------------------------

    def take(self, fact: Fact, position: int, events: Mapping[str, Event]) -> None:
        """Takes in a durable fact; `events` are those in memory."""
        if type(fact) is ScanJudged:
            self.take_scan(fact, position, events.get(fact.event_id))
            if fact.visit_day and fact.tenant_id in self._boards:
                self.take_visit(fact, fact.member_name, 1, position)
            return
        if type(fact) is PointsPosted:
            self._take_card(fact, position)
            self.take_points(fact, position)
            return
        if type(fact) is RulesApplied:
            return  # what came of it are facts of their own
        if isinstance(fact, EventChanged):
            self.take_terms(fact.event_id, fact.terms, position)
            return
        if isinstance(fact, CardFeedFact):
            self._take_card(fact, position)
        if isinstance(fact, CardStateChanged | CardReissued):
            self._take_revocation(fact, position)
        if isinstance(fact, ScanAnnulled):
            self.take_annulment(fact, position)
        if isinstance(fact, EveryoneLeft):
            self.take_leaving(fact.event_id, position)
        if isinstance(fact, CardHolderRenamed | ScanAnnulled):
            self.take_score(fact, position)

    def take_score(self, fact: Fact, position: int) -> None:
        """Takes in what a durable fact changes on boards, if anything."""
        if isinstance(fact, PointsPosted):
            self.take_points(fact, position)
        elif isinstance(fact, CardHolderRenamed):
            self.take_name(fact)
        elif isinstance(fact, ScanJudged) and fact.visit_day:
            self.take_visit(fact, fact.member_name, 1, position)
        elif isinstance(fact, ScanAnnulled) and fact.visit_day:
            self.take_visit(fact, "", 0, position)

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
            topic.touch()

    def take_annulment(self, fact: ScanAnnulled, position: int) -> None:
        """Takes in a durable annulment."""
        feed = self._feeds.get(fact.event_id)
        if feed is not None:
            feed.take_annulment(fact, position)
            topic = self._by_feed.get(fact.event_id)
            if topic is not None:
                topic.touch()

    def take_leaving(self, event_id: str, position: int) -> None:
        """Takes in that everybody was taken to have left an event."""
        feed = self._feeds.get(event_id)
        if feed is not None:
            feed.take_leaving(position)
            topic = self._by_feed.get(event_id)
            if topic is not None:
                topic.touch()

    def take_terms(self, event_id: str, terms: EventTerms, position: int) -> None:
        """Takes in a durable change of an event's terms."""
        feed = self._feeds.get(event_id)
        if feed is not None:
            feed.take_terms(terms, position)
            topic = self._by_feed.get(event_id)
            if topic is not None:
                topic.touch()

    def take_points(self, fact: PointsPosted, position: int) -> None:
        """Takes in a durable posting."""
        boards = self._boards.get(fact.tenant_id)
        if not boards:
            return
        whose = (fact, fact.member_name, (fact.day, ""))
        if _ALL_POINTS in boards:
            self._score(boards, _ALL_POINTS, *whose, fact.earned_after, position)
        for key in keys_of_part("points", fact.day, fact.event_id):
            if key in boards:
                is_of_event = key.startswith(_EVENT_POINTS)
                score = fact.event_earned_after if is_of_event else fact.day_earned_after
                self._score(boards, key, *whose, score, position)

    def take_visit(self, fact: ScanJudged | ScanAnnulled, member_name: str, count: int, position: int) -> None:
        """Takes in a durable visit, or that one was taken back (`count` 0)."""
        boards = self._boards.get(fact.tenant_id)
        if not boards:
            return
        assert fact.visits is not None, "a visit changes what a card has"
        part = fact.part
        keys: list[tuple[str, int]] = []
        for metric, ever in (("visits", fact.visits.ever), ("streak", fact.visits.best_streak)):
            keys.append((board_key(metric, ALL_WINDOW), ever))
            if part.day:
                keys += [(key, count) for key in keys_of_part(metric, part.day, part.event_id)]
        for key, score in keys:
            self._score(boards, key, fact, member_name, part, score, position)

    def _take_card(self, fact: CardFeedFact, position: int) -> None:
        found = self._cards.get(fact.card_id)
        if found is not None:
            topic, source = found
            source.take(fact, position)
            topic.touch()

    def _take_revocation(self, fact: CardStateChanged | CardReissued, position: int) -> None:
        found = self._revocations.get(fact.tenant_id)
        if found is not None:
            topic, source = found
            source.take(fact, position)
            topic.touch()

    def _score(
        self,
        boards: dict[str, Board],
        key: str,
        fact: PointsPosted | ScanJudged | ScanAnnulled,
        member_name: str,
        part: tuple[int, str],
        score: int,
        position: int,
    ) -> None:
        board = boards.get(key)
        if board is None:
            return
        if isinstance(board, PartsBoard):
            board.set_part(fact.card_id, member_name, part, score, position)
        else:
            board.set(fact.card_id, member_name, score, position)
        for topic in self._by_board.get((fact.tenant_id, key), ()):
            topic.touch()

    def take_name(self, fact: CardHolderRenamed) -> None:
        """Takes in a durable change of name."""
        for key, board in self._boards.get(fact.tenant_id, {}).items():
            if board.rename(fact.card_id, fact.member_name):
                for topic in self._by_board.get((fact.tenant_id, key), ()):
                    topic.touch()

    # --- what is looked at --------------------------------------------------------------------------------------------

    def board(self, tenant_id: str, key: str) -> Board | None:
        """A board in memory."""
        return self._boards.get(tenant_id, {}).get(key)

    def add_board(self, tenant_id: str, key: str, board: Board, since: Iterable[tuple[Entry, Sequence[Fact]]]) -> None:
        """Takes a loaded board in; `since` are the durable entries after those that it shows."""
        self._boards.setdefault(tenant_id, {})[key] = board
        for entry, facts in since:
            for index, fact in enumerate(facts):
                if fact.tenant_id == tenant_id:
                    self.take_score(fact, position_of(entry.seq, index))

    def event_topic(self, event: Event) -> Topic:
        """The topic of an event."""
        topic = self._by_feed.get(event.event_id)
        if topic is None:
            feed = self._feeds.get(event.event_id)
            if feed is None:
                feed = self._feeds[event.event_id] = Feed(event)
            feed.follow(event)
            topic = self._by_feed[event.event_id] = self._topic(event.tenant_id, EVENT_TOPIC + event.event_id, feed)
        return topic

    def board_topic(self, tenant_id: str, name: str, source: BoardSource) -> Topic:
        """The topic of a leaderboard. Its window is resolved, so topic "…:day" moves to the new day's board at the
        first look; so does one whose board is another now, or is ranked in another way."""
        topic = self._topics.get((tenant_id, name))
        if topic is None:
            topic = self._topic(tenant_id, name, source)
            self._by_board.setdefault((tenant_id, source.key), []).append(topic)
            return topic
        present = topic.source
        assert isinstance(present, BoardSource), "a leaderboard's topic shows a leaderboard"
        if present.board is not source.board or present.is_shared != source.is_shared:
            self._by_board[(tenant_id, present.key)].remove(topic)
            topic.source = source
            topic.touch()
            self._by_board.setdefault((tenant_id, source.key), []).append(topic)
        return topic

    def card_topic(self, card: Card) -> Topic:
        """The topic of a card."""
        found = self._cards.get(card.card_id)
        if found is None:
            source = CardSource(card)
            topic = self._topic(card.tenant_id, CARD_TOPIC + card.card_id, source)
            found = self._cards[card.card_id] = (topic, source)
        return found[0]

    def revocations_topic(self, tenant_id: str) -> Topic:
        """The topic that tells which of a tenant's cards were suspended, resumed or revoked."""
        found = self._revocations.get(tenant_id)
        if found is None:
            source = RevocationSource(self.durable_seq)
            found = self._revocations[tenant_id] = (self._topic(tenant_id, REVOCATIONS_TOPIC, source), source)
        return found[0]

    def _topic(self, tenant_id: str, name: str, source: Source) -> Topic:
        key = (tenant_id, name)
        topic = self._topics[key] = Topic(key, self._epoch, self._offset_start, source, self._dirty)
        return topic

    def due(self, now_ms: int) -> list[Digest]:
        """All updates to publish now."""
        digests = []
        interval_ms = min(
            max(PUBLISH_INTERVAL_MS, PUBLISH_INTERVAL_MS_PER_TOPIC * len(self._dirty)), PUBLISH_INTERVAL_MS_MAX
        )
        for key, topic in list(self._dirty.items()):
            if now_ms > topic.watched_until_ms:
                del self._dirty[key]  # until somebody looks
                continue
            digest = topic.due(now_ms, self.durable_seq, interval_ms)
            if digest is not None:
                digests.append(digest)
            if not topic.is_dirty:
                del self._dirty[key]
        return digests

    # --- what is put away ---------------------------------------------------------------------------------------------

    def drop_unwatched(self, now_ms: int, limits: Limits) -> None:
        """Puts away what nobody watches: topics of boards, cards and revocations at once, boards and feeds over their
        limits."""
        if now_ms - self._tidied_ms < TIDY_INTERVAL_MS:
            return
        self._tidied_ms = now_ms
        for topic in list(self._topics.values()):
            if topic.watched_until_ms < now_ms - WATCHED_MS and not isinstance(topic.source, Feed):
                self._drop(topic)
        self._by_board = {key: topics for key, topics in self._by_board.items() if topics}
        self._drop_feeds(now_ms, limits.events_resident_max)
        if self.board_count <= limits.boards_resident_max:
            return
        watched = {key for key, topics in self._by_board.items() if topics}
        for tenant_id, boards in self._boards.items():
            for key in [key for key in boards if (tenant_id, key) not in watched]:
                del boards[key]

    def _drop(self, topic: Topic) -> None:
        """Rule 2: the offsets of whatever comes next lie above the topic's."""
        del self._topics[topic.key]
        self._dirty.pop(topic.key, None)
        self._offset_start = max(self._offset_start, topic.offset + 1)
        tenant_id, source = topic.key[0], topic.source
        if isinstance(source, BoardSource):
            self._by_board[(tenant_id, source.key)].remove(topic)
        elif isinstance(source, Feed):
            del self._by_feed[source.event_id]
        elif isinstance(source, CardSource):
            del self._cards[source.card_id]
        else:
            del self._revocations[tenant_id]

    def _drop_feeds(self, now_ms: int, feeds_max: int) -> None:
        if len(self._feeds) <= feeds_max:
            return
        for event_id in list(self._feeds):
            topic = self._by_feed.get(event_id)
            if topic is None or topic.watched_until_ms < now_ms - WATCHED_MS:
                del self._feeds[event_id]
                if topic is not None:
                    self._drop(topic)
