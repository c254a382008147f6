"""Every limit of the engine's core, with its unit in its name. Their relations are checked where the values are
made."""

from __future__ import annotations

import msgspec

from actors.entry import ENTRY_PAYLOAD_BYTES_MAX
from actors.ids import CLOCK_AHEAD_MS_MAX


class Limits(msgspec.Struct, frozen=True):
    """Limits of one partition.

    A message waits at most `wait_ms_max` (for a load, or for the journal to open). What the memory of requests and
    of ledger entries holds stays at least `memory_ms_min`, so that a look-up in Postgres can be trusted together
    with it: nothing can have been decided after the look-up and forgotten before its answer is used. Every
    `alarms_interval_ms` at most `alarms_per_look_max` actors are woken whose time has come (`actors.alarms`).
    """

    mailbox_messages_max: int = 20_000
    appends_in_flight_max: int = 3
    # An entry is closed once it is this long; the command that makes it so may add half as much again.
    entry_bytes_target: int = 500_000
    journal_bytes_max: int = 512 * 1024 * 1024
    requests_remembered_max: int = 50_000
    memory_ms_min: int = 20_000
    wait_ms_max: int = 5_000
    load_timeout_ms: int = 2_000
    load_retry_ms: int = 200
    cards_resident_max: int = 200_000
    events_resident_max: int = 2_000
    boards_resident_max: int = 200
    # Of each other kind of actor.
    others_resident_max: int = 50_000
    alarms_interval_ms: int = 5_000
    alarms_per_look_max: int = 500
    # How far the clock that made a UUIDv7 may be ahead of ours and still be believed.
    clock_ahead_ms_max: int = CLOCK_AHEAD_MS_MAX

    def __post_init__(self) -> None:
        assert self.memory_ms_min >= 2 * (self.wait_ms_max + self.load_timeout_ms), "memory must outlast every look-up"
        assert 2 * self.entry_bytes_target <= ENTRY_PAYLOAD_BYTES_MAX, "an entry must fit into the journal"

    def resident_max(self, kind: str) -> int:
        """How many actors of a kind stay in memory although nobody asks for them."""
        if kind == "card":
            return self.cards_resident_max
        return self.events_resident_max if kind == "event" else self.others_resident_max
