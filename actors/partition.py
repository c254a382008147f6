"""The partition: one writer for all actors of its tenants, as a state machine without I/O.

Every input method returns the effects it leads to, in the order in which the shell is to start them. The life of a
command:

    receive → mailbox → judge ─┬→ stored outcome, failure → held until all it was decided on is durable
                               ├→ something missing → waiting, one batched load for all → judged again
                               └→ new facts → applied → draft entry → Append → on_appended → Deliver

Rules:
1. A reply leaves only when the entry with its facts, and every entry it was decided on top of, is durable.
2. While up to `appends_in_flight_max` entries are being written, later commands are decided on top of them.
3. An append that fails, or whose outcome is unknown, ends this memory: everything unanswered goes back to the
   mailbox, a new epoch is opened, the journal is replayed, and the mailbox is judged again; request ids make that safe.
4. A fenced partition closes and answers `moved`: it never takes itself back.
5. The commands of one actor keep their order while some of them wait for a load.
6. "No such card" is final, so it must not come from a writer that was replaced and does not know: it leaves only with
   an entry that was begun after it was decided.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from actors.alarms import Agenda
from actors.board import board_over
from actors.codec import Message, encode_fact, payload_of
from actors.commands import CheckIn, Command
from actors.effects import Append, Deliver, Effect, Halted, Load, OpenJournal, Publish, Token
from actors.entry import ENTRY_PAYLOAD_BYTES_MAX, Entry, Mark, sealed
from actors.facts import Fact, PointsPosted
from actors.failures import JOURNAL_FULL, MAILBOX_FULL, MOVED_AWAY, STOPPED, STORE_LATE
from actors.handlers import order_key
from actors.ids import position_of
from actors.judge import Judge
from actors.limits import Limits
from actors.live import Views
from actors.pending import Draft, Sealed, Waiting, told_absent
from actors.ports import Loaded
from actors.recent import RecentEntries
from actors.recovery import Superseded, recover
from actors.refusals import FAILURES_NOT_FOUND
from actors.replies import Done, Failed, Reply
from actors.requests import RequestMemory
from actors.residents import Residents
from actors.tail import TailEntries
from actors.viewer import Viewer
from actors.waiting import Known, Wants, absent_from

State = Literal["closed", "opening", "open", "halted"]

# What an open that failed means: another writer has it, the journal contradicts itself, or a store is away for now.
OpenFailure = Literal["fenced", "corrupt", "away"]


class Partition:
    """One partition's memory and its course. See the module's docstring."""

    def __init__(self, number: int, limits: Limits) -> None:
        self.number = number
        self.state: State = "closed"
        self.halt_reason = ""
        self.epoch = 0
        self.durable = Mark()
        self.projected_seq = 0
        self.residents = Residents()
        self.last = Mark()
        self._limits = limits
        self._now_ms = 0
        self._attempt = 0
        self._expected_epoch: int | None = None
        self._load_id = 0
        self._mailbox: deque[Waiting] = deque()
        self._current: Waiting | None = None
        self._effects: list[Effect] = []
        self._ready: list[tuple[Token, Reply]] = []
        self._forget()

    def _forget(self) -> None:
        """An empty memory: what is in it comes from the journal and from Postgres."""
        self.residents = Residents()
        self._requests = RequestMemory(self._limits, is_complete=False, forgotten_until_ms=self._now_ms, claims={})
        self._recent = RecentEntries(self._limits)
        self._views = Views(self.epoch)
        self._judge = Judge(self.residents, self._requests, self._recent, self._views)
        self._viewer = Viewer(self._judge, self._views)
        self._pending: deque[Sealed] = deque()
        self._draft = Draft()
        self._parked: list[Waiting] = []
        self._parked_keys: set[str] = set()
        self._wants = Wants()
        self._asked: Wants | None = None
        self._load_retry_ms = 0
        self._tail = TailEntries()
        self._projected_later = 0
        self._agenda = Agenda(self._limits, self._now_ms)

    # --- inputs -----------------------------------------------------------------------------------------------------

    def open(self, now_ms: int, expected_epoch: int | None = None) -> list[Effect]:
        """Take this partition, from whoever had it."""
        self._tick_clock(now_ms)
        if self.state in ("closed", "halted"):
            self._start_opening(expected_epoch)
        return self._take_effects()

    def on_opened(
        self,
        attempt: int,
        opening: Entry,
        projected: Mark,
        entries: Sequence[Entry],
        claims: Mapping[str, int],
        now_ms: int,
    ) -> list[Effect]:
        """The journal is open in a new epoch; `entries` is all it holds after Postgres' position. `claims` tells how
        far ahead of the clock request ids have been (`actors.ports.EntityStore.claims`)."""
        self._tick_clock(now_ms)
        if self.state != "opening" or attempt != self._attempt:
            return self._take_effects()
        recovered = recover(opening, projected, self.durable, entries)
        if isinstance(recovered, Superseded):
            self._close()
            return self._take_effects()
        if isinstance(recovered, str):
            self._halt(recovered)
            return self._take_effects()
        self.epoch = opening.epoch
        # Time goes on from where the journal is, though it was kept by another host's clock.
        self._tick_clock(max([opening.at_ms, *(entry.at_ms for entry in entries)]))
        self._forget()
        self._requests = RequestMemory(
            self._limits,
            is_complete=projected.seq == 0,
            forgotten_until_ms=entries[0].at_ms if entries else opening.at_ms,
            claims=claims,
        )
        self._judge = Judge(self.residents, self._requests, self._recent, self._views)
        self._viewer = Viewer(self._judge, self._views)
        for entry, facts in recovered.entries:
            self._tail.add(entry)
            for index, fact in enumerate(facts):
                position = position_of(entry.seq, index)
                self.residents.recover(fact, position)
                self._note(fact, position)
        self.last = self.durable = Mark(opening.epoch, opening.seq, opening.checksum)
        self._views.durable_seq = opening.seq
        self.projected_seq = projected.seq
        self.state = "open"
        return self._turn()

    def on_open_failed(self, attempt: int, failure: OpenFailure, detail: str, now_ms: int) -> list[Effect]:
        """The journal could not be opened. When a store is away the shell calls `tick`, and in time this opens
        again."""
        self._tick_clock(now_ms)
        if self.state != "opening" or attempt != self._attempt:
            return self._take_effects()
        if failure == "fenced":
            self._close()
        elif failure == "corrupt":
            self._halt(detail)
        else:
            self._start_opening(self._expected_epoch)
        return self._take_effects()

    def receive(self, batch: Iterable[tuple[Token, Message]], now_ms: int) -> list[Effect]:
        """Messages arrive. Each token comes back with exactly one reply."""
        self._tick_clock(now_ms)
        if self.state in ("closed", "halted"):
            failure = self._not_here()
            self._ready.extend((token, failure) for token, _ in batch)
            return self._take_effects()
        room = self._limits.mailbox_messages_max - self.waiting_count - self._held_count
        for token, message in batch:
            if room > 0:
                self._mailbox.append(Waiting(token, message, self._now_ms))
                room -= 1
            else:
                self._ready.append((token, MAILBOX_FULL))
        return self._turn()

    def on_loaded(self, load_id: int, loaded: Loaded, now_ms: int) -> list[Effect]:
        """What was asked to be loaded is here."""
        self._tick_clock(now_ms)
        asked = self._asked
        if self.state != "open" or load_id != self._load_id or asked is None:
            return self._take_effects()
        if loaded.projected.seq < self.projected_seq:
            # Older than the tail that is kept here, so it cannot be brought up to date: not the primary's answer.
            return self.on_load_failed(load_id, now_ms)
        if loaded.projected.seq > self.last.seq:
            self._close()  # fenced, see `_note_projected`
            return self._take_effects()
        self._asked = None
        self.residents.install(loaded)
        for (tenant_id, key), scores in loaded.boards.items():
            tail = self._tail.between(loaded.projected.seq, self.durable.seq)
            self._views.add_board(tenant_id, key, board_over(key, scores), tail)
        absent = absent_from(asked, loaded)
        for waiting in self._parked:
            if waiting.known is None:
                waiting.known = Known(self.last.seq + bool(self._draft.facts))
            waiting.known.learn(waiting.message, asked, loaded, absent)
        if asked.alarms_until_ms:
            wakes = self._agenda.looked(loaded.alarms, self._now_ms)
            self._mailbox.extend(Waiting(None, wake, self._now_ms) for wake in wakes)
        self._note_projected(self._projected_later)
        return self._rerun_parked()

    def on_load_failed(self, load_id: int, now_ms: int) -> list[Effect]:
        """Postgres did not answer; it is asked again after a while, for as long as anybody waits."""
        self._tick_clock(now_ms)
        if self.state == "open" and load_id == self._load_id:
            self._asked = None
            self._load_retry_ms = self._now_ms + self._limits.load_retry_ms
            self._note_projected(self._projected_later)
        return self._take_effects()

    def on_appended(self, epoch: int, seq: int, projected_hint: int, now_ms: int) -> list[Effect]:
        """An entry is durable."""
        self._tick_clock(now_ms)
        if self.state != "open" or epoch != self.epoch:
            return self._take_effects()
        done = self._pending[0]
        assert done.entry.seq == seq, "appends finish in the order in which they were started"
        self.durable = Mark(epoch, seq, done.entry.checksum)
        self._views.durable_seq = seq
        for index, fact in enumerate(done.facts):
            self._views.take(fact, position_of(seq, index), self.residents.events)
        self._pending.popleft()
        self._ready += [(waiting.token, reply) for waiting, reply in done.held]
        self._note_projected(projected_hint)
        return self._turn()

    def on_append_failed(self, epoch: int, is_fenced: bool, now_ms: int) -> list[Effect]:
        """An entry was refused, or nobody knows whether it was written."""
        self._tick_clock(now_ms)
        if self.state != "open" or epoch != self.epoch:
            return self._take_effects()
        if is_fenced:
            self._close()
        else:
            self._mailbox.extendleft(reversed(self._unanswered()))
            self._start_opening(self.epoch)
        return self._take_effects()

    def on_projected(self, projected_seq: int, now_ms: int) -> list[Effect]:
        """Postgres holds everything up to `projected_seq`."""
        self._tick_clock(now_ms)
        if self.state == "open":
            self._note_projected(projected_seq)
        return self._take_effects()

    def close(self, now_ms: int) -> list[Effect]:
        """Give the partition up. What is being written stays unanswered here; the next owner knows its outcome."""
        self._tick_clock(now_ms)
        self._close()
        return self._take_effects()

    def halt(self, reason: str, now_ms: int) -> list[Effect]:
        """Stop: something is wrong that going on would make worse."""
        self._tick_clock(now_ms)
        self._halt(reason)
        return self._take_effects()

    def tick(self, now_ms: int) -> list[Effect]:
        """Time passes: what waits too long is answered, memory is tidied, live updates go out."""
        self._tick_clock(now_ms)
        self._expire()
        if self.state != "open":
            return self._take_effects()
        projected = position_of(self.projected_seq + 1, 0) - 1
        self._requests.forget(projected, self._now_ms)
        self._recent.forget(projected, self._now_ms)
        self.residents.put_away(projected, self._limits, self._parked_keys | told_absent(self._parked, self._mailbox))
        self._views.drop_unwatched(self._now_ms, self._limits)
        if self._agenda.is_due(self._now_ms, self.projected_seq):
            self._wants.alarms_until_ms, self._wants.alarms_max = self._now_ms, self._limits.alarms_per_look_max
        if self._parked and self._asked is None and self._now_ms >= self._load_retry_ms:
            return self._rerun_parked()
        return self._turn()

    # --- a turn -----------------------------------------------------------------------------------------------------

    def _turn(self) -> list[Effect]:
        """Decides what is in the mailbox as far as the draft has room, and starts what can be started."""
        if self.state == "open":
            mailbox = self._mailbox
            while mailbox and self._has_room():
                self._current = mailbox.popleft()
                self._decide(self._current)
            self._current = None
            self._seal()
            self._load()
            digests = [*self._viewer.digests, *self._views.due(self._now_ms)]
            self._viewer.digests = []
            if digests:
                self._effects.append(Publish(digests))
        return self._take_effects()

    def _has_room(self) -> bool:
        if self._draft.bytes < self._limits.entry_bytes_target:
            return True
        self._seal()
        return not self._draft.facts

    def _decide(self, waiting: Waiting) -> None:
        message = waiting.message
        # Nearly all are check-ins; a look through the whole union costs more than the rest of this.
        if not isinstance(message, CheckIn) and not isinstance(message, Command):
            answer = self._viewer.answer(message, self._now_ms, waiting.known, self._wants)
            if answer is None:
                self._parked.append(waiting)
            else:
                self._hold(waiting, answer)
            return
        key = order_key(message)
        if key in self._parked_keys:
            self._parked.append(waiting)
            return
        outcome = self._judge.judge(message, self._now_ms, waiting.known, self._wants)
        has_room = self._tail.bytes <= self._limits.journal_bytes_max
        if isinstance(outcome, list) and has_room:
            self._accept(waiting, outcome)
        elif waiting.token is None and (isinstance(outcome, Failed) or not has_room):
            return  # nobody asked; the next look finds it again
        elif outcome is None:
            self._parked.append(waiting)
            self._parked_keys.add(key)
        elif isinstance(outcome, Done) or (isinstance(outcome, Failed) and outcome.code not in FAILURES_NOT_FOUND):
            self._hold(waiting, outcome)
        elif isinstance(outcome, Failed) and has_room:
            self._draft.held.append((waiting, outcome))  # rule 6
        else:
            self._ready.append((waiting.token, JOURNAL_FULL))

    def _accept(self, waiting: Waiting, facts: list[Fact]) -> None:
        """Applies the facts and puts them into the draft; the one with the request id answers the command."""
        seq, draft = self.last.seq + 1, self._draft
        answer: Done | None = None
        position = position_of(seq, len(draft.facts))
        for fact in facts:
            encoded = encode_fact(fact)
            draft.encoded.append(encoded)
            draft.bytes += len(encoded)
            self.residents.apply(fact, position)
            self._note(fact, position)
            if fact.request_id:
                answer = Done(fact, False, position)
            position += 1
        draft.facts += facts
        if waiting.token is None:
            self._agenda.woke(seq if facts else self.durable.seq, facts)
            return
        assert answer is not None, "every command is answered by one of its facts"
        draft.held.append((waiting, answer))

    def _note(self, fact: Fact, position: int) -> None:
        if fact.request_id:
            self._requests.remember((fact.tenant_id, fact.request_id), fact, position)
        if type(fact) is PointsPosted:
            self._recent.take(fact, position)

    def _hold(self, waiting: Waiting, reply: Reply) -> None:
        """A reply without facts of its own may tell what others decided: it leaves when all of that is durable."""
        if self._draft.facts:
            self._draft.held.append((waiting, reply))
        elif self._pending:
            self._pending[-1].held.append((waiting, reply))
        else:
            self._ready.append((waiting.token, reply))

    def _seal(self) -> None:
        draft = self._draft
        if not (draft.facts or draft.held) or len(self._pending) >= self._limits.appends_in_flight_max:
            return
        payload = payload_of(draft.encoded)
        assert len(payload) <= ENTRY_PAYLOAD_BYTES_MAX, "an entry stays within what the journal takes"
        entry = sealed(self.last.checksum, self.epoch, self.last.seq + 1, self._now_ms, payload)
        assert entry.seq == self.durable.seq + len(self._pending) + 1, "the journal has no holes"
        self._effects.append(Append(entry, self.last.checksum))
        self._tail.add(entry)
        self._pending.append(Sealed(entry, draft.facts, draft.held))
        self.last = Mark(entry.epoch, entry.seq, entry.checksum)
        self._draft = Draft()

    def _load(self) -> None:
        if not self._wants or self._asked is not None or self._now_ms < self._load_retry_ms:
            return
        self._asked, self._wants = self._wants, Wants()
        self._load_id += 1
        self._effects.append(Load(self._load_id, self._asked.request()))

    def _rerun_parked(self) -> list[Effect]:
        parked, self._parked, self._parked_keys = self._parked, [], set()
        self._wants = Wants()
        self._mailbox.extendleft(reversed(parked))
        return self._turn()

    # --- what is shown, and what Postgres holds ---------------------------------------------------------------------

    def _note_projected(self, projected_seq: int) -> None:
        """What a load under way has read may be older than this; its tail must still be here when it comes."""
        if projected_seq > self.last.seq:
            # Postgres holds what was not written here: another writer has the partition, and we have not heard of it.
            self._close()
        elif self._asked is not None:
            self._projected_later = max(self._projected_later, projected_seq)
        elif projected_seq > self.projected_seq:
            self.projected_seq = projected_seq
            self._tail.drop(projected_seq)

    # --- closing, halting, waiting too long -------------------------------------------------------------------------

    def _start_opening(self, expected_epoch: int | None) -> None:
        self._forget()
        for waiting in self._mailbox:
            # What a load told was to be read together with the memory that is gone now.
            waiting.known = None
        self.state = "opening"
        self.halt_reason = ""
        self._expected_epoch = expected_epoch
        self._attempt += 1
        self._effects.append(OpenJournal(self._attempt, expected_epoch))

    def _unanswered(self) -> list[Waiting]:
        held = [waiting for done in self._pending for waiting, _ in done.held]
        held += [waiting for waiting, _ in self._draft.held]
        return held + self._parked

    def _close(self) -> None:
        self._fail_all("closed")

    def _halt(self, reason: str) -> None:
        self.halt_reason = reason
        self._fail_all("halted")
        self._effects.append(Halted(reason))

    def _fail_all(self, state: State) -> None:
        unanswered = [*self._unanswered(), *self._mailbox]
        if self._current is not None and all(waiting is not self._current for waiting in unanswered):
            unanswered.append(self._current)
        self._current = None
        self.state = state
        self._mailbox.clear()
        self._forget()
        self._answer(unanswered, self._not_here())

    def _not_here(self) -> Failed:
        return STOPPED if self.state == "halted" else MOVED_AWAY

    def _expire(self) -> None:
        oldest_ms = self._now_ms - self._limits.wait_ms_max
        late = [waiting for waiting in self._parked if waiting.arrived_ms < oldest_ms]
        if late:
            self._parked = [waiting for waiting in self._parked if waiting.arrived_ms >= oldest_ms]
            self._parked_keys = {
                order_key(waiting.message) for waiting in self._parked if isinstance(waiting.message, Command)
            }
        while self._mailbox and self._mailbox[0].arrived_ms < oldest_ms:
            late.append(self._mailbox.popleft())
        self._answer(late, STORE_LATE)

    def _tick_clock(self, now_ms: int) -> None:
        self._now_ms = max(self._now_ms, now_ms)

    def _answer(self, unanswered: Iterable[Waiting], failure: Failed) -> None:
        self._ready.extend((waiting.token, failure) for waiting in unanswered if waiting.token is not None)

    def _take_effects(self) -> list[Effect]:
        effects = self._effects
        self._effects = []
        if self._ready:
            effects.append(Deliver(self._ready))
            self._ready = []
        return effects

    # --- figures ----------------------------------------------------------------------------------------------------

    @property
    def waiting_count(self) -> int:
        """Messages that have not been decided."""
        return len(self._mailbox) + len(self._parked)

    @property
    def _held_count(self) -> int:
        return len(self._draft.held) + sum(len(done.held) for done in self._pending)

    @property
    def parked_count(self) -> int:
        """Messages that wait for a load."""
        return len(self._parked)

    @property
    def unprojected_bytes(self) -> int:
        """Bytes in the journal that Postgres does not hold."""
        return self._tail.bytes
