"""Alarms: what has to happen at a time although nobody asks (points lapse, a hold ends, everybody leaves).

Rules:
1. Each actor has one alarm: the earliest time at which something of it falls due, worked out from its state alone.
   Whoever decides facts that change it adds an `AlarmSet`; Postgres keeps the alarms, so they outlive the memory.
2. Every `alarms_interval_ms` the partition reads which alarms are due and wakes those actors by a `Wake` to itself.
   What falls due is also taken into account by every other decision about the actor, so lateness changes no answer.
3. What was read before Postgres held what the last waking led to would wake the same actors again: the next look waits
   for that.
4. Work that takes many steps (`actors.rounds`) sets its alarm to a time that has come: the next look is then as soon as
   rule 3 lets it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from actors.commands import Wake
from actors.facts import AlarmSet, Fact
from actors.limits import Limits
from actors.ports import Alarm


class Agenda:
    """When a partition looks for alarms."""

    def __init__(self, limits: Limits, now_ms: int) -> None:
        self._limits = limits
        self._next_look_ms = now_ms + limits.alarms_interval_ms
        self._woken_seq = 0

    def is_due(self, now_ms: int, projected_seq: int) -> bool:
        """Whether to look for alarms now."""
        return now_ms >= self._next_look_ms and projected_seq >= self._woken_seq

    def looked(self, alarms: Iterable[Alarm], now_ms: int) -> Iterator[Wake]:
        """Whom to wake, after a look."""
        self._next_look_ms = now_ms + self._limits.alarms_interval_ms
        for alarm in alarms:
            yield Wake(alarm.tenant_id, "", b"", alarm.kind, alarm.entity_id)

    def woke(self, seq: int, facts: Iterable[Fact]) -> None:
        """What a waking led to, `facts`, is in entry `seq`. Who is not done wants to be woken at once (rule 4)."""
        self._woken_seq = seq
        if any(isinstance(fact, AlarmSet) and fact.rang and 0 < fact.wake_ms <= fact.at_ms for fact in facts):
            self._next_look_ms = 0
