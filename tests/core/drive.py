"""A partition driven by hand: the test says when an append is done, a load answered, the journal opened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from actors.codec import Message, encode_facts
from actors.effects import Append, Deliver, Effect, Halted, Load, OpenJournal, Publish
from actors.entry import EMPTY_PAYLOAD, Entry, Mark, sealed
from actors.limits import Limits
from actors.partition import Partition
from actors.ports import Loaded
from actors.replies import Reply
from tests.core.build import NOW_MS, founding


class Drive:
    """A partition with the entries it wrote, the loads it asked for and the replies it gave."""

    def __init__(self, **limits: Any) -> None:
        self.limits = Limits(**limits)
        self.partition = Partition(0, self.limits)
        self.now_ms = NOW_MS
        self.journal: list[Entry] = []
        self.projected = Mark()
        self.claims: dict[str, int] = {}
        self.appends: list[Append] = []
        self.loads: list[Load] = []
        self.opens: list[OpenJournal] = []
        self.halts: list[str] = []
        self.replies: dict[object, list[Reply]] = {}
        self.published: list[Any] = []

    def do(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Append():
                    self.appends.append(effect)
                case Load():
                    self.loads.append(effect)
                case OpenJournal():
                    self.opens.append(effect)
                case Halted():
                    self.halts.append(effect.reason)
                case Publish():
                    self.published += effect.digests
                case Deliver():
                    for token, reply in effect.replies:
                        self.replies.setdefault(token, []).append(reply)

    def write(self, payload: bytes, epoch: int) -> Entry:
        last = self.journal[-1] if self.journal else Mark()
        entry = sealed(last.checksum, epoch, last.seq + 1, self.now_ms, payload)
        self.journal.append(entry)
        return entry

    def opened(self) -> None:
        """The journal opens the next epoch."""
        epoch = self.journal[-1].epoch + 1 if self.journal else 1
        opening = self.write(EMPTY_PAYLOAD, epoch)
        attempt = self.opens[-1].attempt
        entries = self.journal[self.projected.seq :]
        self.do(self.partition.on_opened(attempt, opening, self.projected, entries, self.claims, self.now_ms))

    def send(self, *messages: tuple[object, Message]) -> None:
        self.do(self.partition.receive(messages, self.now_ms))

    def appended(self, hint: int = 0) -> None:
        """The oldest append is done."""
        entry = self.appends.pop(0).entry
        self.journal.append(entry)
        self.do(self.partition.on_appended(entry.epoch, entry.seq, hint, self.now_ms))

    def tick(self, later_ms: int = 0) -> None:
        self.now_ms += later_ms
        self.do(self.partition.tick(self.now_ms))

    def loaded(self, load_id: int | None = None, **found: Any) -> None:
        loaded = Loaded(found.pop("projected", self.projected), **found)
        self.do(self.partition.on_loaded(load_id or self.loads[-1].load_id, loaded, self.now_ms))

    def reply(self, token: object) -> Any:
        (reply,) = self.replies[token]
        return reply


def driven(cards: int = 3, **limits: Any) -> Drive:
    """A partition that is open, with an organisation, an event for two and cards in memory."""
    drive = Drive(**limits)
    drive.do(drive.partition.open(NOW_MS))
    drive.write(encode_facts(founding(cards)), 1)
    drive.opened()
    assert drive.partition.state == "open"
    return drive


def projected_away(cards: int = 3, **limits: Any) -> Drive:
    """Like `driven`, but Postgres holds everything and memory holds nothing."""
    drive = Drive(**limits)
    drive.do(drive.partition.open(NOW_MS))
    entry = drive.write(encode_facts(founding(cards)), 1)
    drive.projected = Mark(entry.epoch, entry.seq, entry.checksum)
    drive.opened()
    return drive
