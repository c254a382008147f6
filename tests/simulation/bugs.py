"""Bugs, planted on purpose: whoever checks must find each of them. Every bug is a small change of a production class or
of a model, in force as long as its context. The last group were real: the simulator (or the reading that went with
writing it) found them in this code.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import actors.board
import actors.checkin
import actors.partition
import actors.recovery
from actors.calendar import local_day
from actors.card import Card
from actors.entry import Mark
from actors.facts import CardIssued, CardStateChanged
from actors.judge import Judge
from actors.ledger import LedgerDraft
from actors.live import Views
from actors.live_sources import RevocationSource
from actors.partition import Partition
from actors.recovery import Superseded
from actors.refusals import CARD_UNKNOWN
from actors.replies import Done, Failed
from actors.requests import RequestMemory
from actors.residents import Residents
from tests.simulation.journal_model import JournalModel
from tests.simulation.planting import around, planted
from tests.simulation.postgres_model import PostgresModel, Projector

FAR = 1 << 60


def loaded_whatever_its_age(original: Any, self: Any, load_id: int, found: Any, now_ms: int) -> Any:
    """`on_loaded` without its guard against answers from before the tail."""
    self.projected_seq = min(self.projected_seq, found.projected.seq)
    return original(self, load_id, found, now_ms)


# --- durability ------------------------------------------------------------------------------------------------------


@planted
def ack_before_append() -> Iterator[None]:
    def accept(original: Any, self: Any, waiting: Any, facts: Any) -> None:
        original(self, waiting, facts)
        waiting, answer = self._draft.held.pop()
        self._ready.append((waiting.token, answer))

    with around(Partition, "_accept", accept):
        yield


@planted
def reply_of_tentative_read() -> Iterator[None]:
    with patch.object(Partition, "_hold", lambda self, waiting, reply: self._ready.append((waiting.token, reply))):
        yield


@planted
def publish_before_durable() -> Iterator[None]:
    def note(original: Any, self: Any, fact: Any, position: int) -> None:
        original(self, fact, position)
        if self.state == "open":
            self._views.durable_seq = self.last.seq + 1
            self._views.take(fact, position, self.residents.events)

    with around(Partition, "_note", note):
        yield


@planted
def a_revocation_left_out() -> Iterator[None]:
    with around(RevocationSource, "take", lambda original, *args: None if args[-1] % 3 == 0 else original(*args)):
        yield


@planted
def unknown_outcome_answered_as_failed() -> Iterator[None]:
    def failed(original: Any, self: Any, epoch: int, is_fenced: bool, now_ms: int) -> Any:
        if self.state == "open" and epoch == self.epoch:
            for done in self._pending:
                self._ready.extend((waiting.token, Failed(CARD_UNKNOWN, "", 0)) for waiting, _ in done.held)
                done.held.clear()
        return original(self, epoch, is_fenced, now_ms)

    with around(Partition, "on_append_failed", failed):
        yield


# --- one writer, one order -------------------------------------------------------------------------------------------


@planted
def fence_removed() -> Iterator[None]:
    def init(original: Any, self: Any, *args: Any) -> None:
        original(self, *args)
        self.is_fenced = False

    with around(JournalModel, "__init__", init):
        yield


@planted
def chain_not_verified() -> Iterator[None]:
    with patch.object(actors.recovery, "is_intact", lambda previous, entry: True):
        yield


@planted
def hole_not_noticed() -> Iterator[None]:
    def recover(opening: Any, projected: Any, durable: Any, entries: Any) -> Any:
        kept = [(entry, actors.recovery.decode_facts(entry)) for entry in entries]
        return actors.recovery.Recovered(kept)

    with patch.object(actors.partition, "recover", recover):
        yield


@planted
def parked_commands_overtaken() -> Iterator[None]:
    def decide(original: Any, self: Any, waiting: Any) -> None:
        self._parked_keys.clear()
        original(self, waiting)

    with around(Partition, "_decide", decide):
        yield


@planted
def pending_commands_lost_on_reopen() -> Iterator[None]:
    with patch.object(Partition, "_unanswered", lambda self: self._parked):
        yield


@planted
def double_reply() -> Iterator[None]:
    def appended(original: Any, self: Any, *args: Any) -> Any:
        if self._pending and self.state == "open":
            self._pending[0].held.extend(self._pending[0].held[:1])
        return original(self, *args)

    with around(Partition, "on_appended", appended):
        yield


@planted
def mailbox_without_bound() -> Iterator[None]:
    with patch.object(Partition, "waiting_count", property(lambda self: -1_000)):
        yield


# --- one effect per request ------------------------------------------------------------------------------------------


@planted
def dedupe_lost_at_restart() -> Iterator[None]:
    def init(original: Any, self: Any, limits: Any, **_: Any) -> None:
        original(self, limits, is_complete=True, forgotten_until_ms=0, claims={})

    with around(RequestMemory, "__init__", init):
        yield


@planted
def requests_forgotten_before_projected() -> Iterator[None]:
    with around(RequestMemory, "forget", lambda original, self, _, now_ms: original(self, FAR, now_ms)):
        yield


@planted
def clock_ahead_trusted() -> Iterator[None]:
    def is_certainly_new(self: Any, key: tuple[str, str], now_ms: int) -> bool:
        made_ms = actors.requests.uuid7_time_ms(key[1])
        return self._is_complete or (made_ms is not None and made_ms > self._forgotten_until_ms)

    with patch.object(RequestMemory, "is_certainly_new", is_certainly_new):
        yield


@planted
def other_body_replayed() -> Iterator[None]:
    with patch.object(Judge, "_replayed", staticmethod(lambda command, fact, position: Done(fact, True, position))):
        yield


@planted
def replay_told_as_new() -> Iterator[None]:
    with patch.object(Judge, "_replayed", staticmethod(lambda command, fact, position: Done(fact, False, position))):
        yield


# --- memory is a cache -----------------------------------------------------------------------------------------------


@planted
def put_away_before_projected() -> Iterator[None]:
    def put_away(original: Any, self: Any, projected: int, limits: Any, pinned: Any) -> None:
        original(self, FAR, limits, pinned)

    with around(Residents, "put_away", put_away):
        yield


@planted
def row_taken_without_its_tail() -> Iterator[None]:
    with patch.object(Residents, "_catch_up", lambda self, actor, key: None):
        yield


@planted
def older_snapshot_replaces_memory() -> Iterator[None]:
    def install(self: Any, loaded: Any) -> None:
        self.tenants.update(loaded.tenants)
        for (_, key), card in loaded.cards.items():
            self.cards[key] = card
        for (_, key), event in loaded.events.items():
            self.events[key] = event

    with patch.object(Residents, "install", install):
        yield


@planted
def tail_dropped_under_a_load() -> Iterator[None]:
    def note(original: Any, self: Any, projected_seq: int) -> None:
        asked, self._asked = self._asked, None
        original(self, projected_seq)
        self._asked = asked

    with around(Partition, "_note_projected", note), around(Partition, "on_loaded", loaded_whatever_its_age):
        yield


@planted
def facts_applied_twice() -> Iterator[None]:
    def apply(original: Any, self: Any, fact: Any, position: int) -> None:
        self.position = 0
        original(self, fact, position)

    with around(Card, "apply", apply):
        yield


@planted
def apply_reads_a_counter() -> Iterator[None]:
    calls = iter(range(FAR))

    def apply(original: Any, self: Any, fact: Any, position: int) -> None:
        original(self, fact, position)
        if self.earned_position == position:
            self.earned_position += next(calls) % 7

    with around(Card, "apply", apply):
        yield


@planted
def count_of_cards_not_recovered() -> Iterator[None]:
    def recover_one(original: Any, self: Any, actor: Any, key: str, fact: Any, position: int) -> None:
        if not (isinstance(fact, CardIssued | CardStateChanged) and key == fact.tenant_id):
            original(self, actor, key, fact, position)

    with around(Residents, "_recover_one", recover_one):
        yield


@planted
def another_tenants_card_found() -> Iterator[None]:
    with patch.object(Residents, "find", lambda self, kind, tenant_id, own_id: self.actors[kind].get(own_id)):
        yield


# --- write-behind ----------------------------------------------------------------------------------------------------


@planted
def journal_trimmed_by_length() -> Iterator[None]:
    def trim(self: Any, projected: Mark) -> None:
        self.trimmed_until = max(self.trimmed_until, len(self.archive) - 2)

    with patch.object(JournalModel, "trim", trim):
        yield


@planted
def rows_committed_without_position() -> Iterator[None]:
    def commit(original: Any, self: Any, before: Mark, entries: Any) -> bool:
        if self._world.rng.random() < 0.05 and self.position == before:
            self.write_rows(entries)
            return False
        return bool(original(self, before, entries))

    with around(PostgresModel, "commit", commit):
        yield


@planted
def position_committed_without_rows() -> Iterator[None]:
    def write_rows(original: Any, self: Any, entries: Any) -> None:
        if self._world.rng.random() >= 0.05:
            original(self, entries)

    with around(PostgresModel, "write_rows", write_rows):
        yield


@planted
def poison_skipped() -> Iterator[None]:
    def write_rows(original: Any, self: Any, entries: Any) -> None:
        original(self, [entry for entry in entries if entry.checksum[0] % 16])

    with around(PostgresModel, "write_rows", write_rows):
        yield


@planted
def position_not_compared() -> Iterator[None]:
    with around(PostgresModel, "commit", lambda original, self, _, entries: original(self, self.position, entries)):
        yield


@planted
def stale_load_accepted() -> Iterator[None]:
    """The projector tells how far it will be before it is, and an answer from before that is taken in."""

    def commit(original: Any, self: Any, before: Mark, entries: Any) -> Any:
        self._journal.note_projected(entries[-1].seq)
        if self._world.rng.random() < 0.3:
            return self._again()
        return original(self, before, entries)

    with around(Projector, "_commit", commit), around(Partition, "on_loaded", loaded_whatever_its_age):
        yield


# --- real ones, found here -------------------------------------------------------------------------------------------


@planted
def real_superseded_while_opening_halts() -> Iterator[None]:
    original = actors.partition.recover

    def recover(*args: Any) -> Any:
        found = original(*args)
        return "the journal ends elsewhere" if isinstance(found, Superseded) else found

    with patch.object(actors.partition, "recover", recover):
        yield


@planted
def real_zombie_halts_at_the_hint() -> Iterator[None]:
    def note(original: Any, self: Any, projected_seq: int) -> None:
        assert projected_seq <= self.last.seq, "Postgres never holds more than the journal"
        original(self, projected_seq)

    with around(Partition, "_note_projected", note):
        yield


@planted
def real_day_goes_back() -> Iterator[None]:
    def init(original: Any, self: Any, tenant: Any, card: Card, at_ms: int, before: Any = None) -> None:
        original(self, tenant, card, at_ms, before)
        self.day = day = local_day(at_ms, tenant.settings.time_zone)
        self._day_earned = card.day_earned if card.day == day else 0

    with around(LedgerDraft, "__init__", init):
        yield


@planted
def real_offsets_begin_again() -> Iterator[None]:
    def drop(original: Any, self: Any, *args: Any) -> None:
        original(self, *args)
        self._offset_start = 0

    with around(Views, "drop_unwatched", drop):
        yield


@planted
def real_clock_ahead_forgotten() -> Iterator[None]:
    def forget(original: Any, self: Any, projected: int, now_ms: int) -> None:
        with patch("actors.requests.claimed_ahead_ms", lambda request_id, at_ms, ahead_ms_max: 0):
            original(self, projected, now_ms)

    with around(RequestMemory, "forget", forget):
        yield


@planted
def real_hint_lost_with_its_projector() -> Iterator[None]:
    def read(original: Any, self: Any) -> Any:
        noted = self._journal.hint
        original(self)
        self._journal.hint = noted

    with around(Projector, "_read", read):
        yield


@planted
def real_claims_lost_at_restart() -> Iterator[None]:
    with around(Partition, "on_opened", lambda original, self, *args: original(self, *args[:4], {}, args[5])):
        yield
