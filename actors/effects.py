"""What a partition asks its shell to do. The shell does these in the order given and reports back through the
partition's inputs, handing back the number (`attempt`, `load_id`) that came with the effect: a report that is no
longer waited for changes nothing."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from actors.entry import Entry
from actors.ports import LoadRequest
from actors.replies import Digest, Reply

# What the shell hands in with a message and gets back with its reply; the partition only carries it.
Token = object


class OpenJournal(msgspec.Struct, frozen=True):
    """Open a new epoch (only if the journal is still in `expected_epoch`, where given), then read Postgres' position
    all entries after it, and the claims; report `on_opened` or `on_open_failed`."""

    attempt: int
    expected_epoch: int | None


class Load(msgspec.Struct, frozen=True):
    """Read from Postgres; report `on_loaded` or `on_load_failed`. At most one is waited for."""

    load_id: int
    request: LoadRequest


class Append(msgspec.Struct, frozen=True):
    """Write an entry; report `on_appended` or `on_append_failed`. Several may be under way, in order."""

    entry: Entry
    previous: bytes


class Deliver(msgspec.Struct, frozen=True):
    """Send these replies: all they tell is durable."""

    replies: Sequence[tuple[Token, Reply]]


class Publish(msgspec.Struct, frozen=True):
    """Publish these live updates: all they tell is durable."""

    digests: Sequence[Digest]


class Halted(msgspec.Struct, frozen=True):
    """The partition stopped and wants an operator; `reason` says why."""

    reason: str


Effect = OpenJournal | Load | Append | Deliver | Publish | Halted
