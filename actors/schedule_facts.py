"""Facts about rules that come at local times: when each comes next, and how far the cards have been walked. Rules as in
`actors.facts`."""

from __future__ import annotations

import msgspec


class RuleDue(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """When a scheduled rule comes next."""

    rule_id: str
    due_ms: int


class Round(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Rules have come at `due_ms`, and are moved for one card after the other, in the order of the cards' ids; those up
    to `after` have been looked at ("": none)."""

    due_ms: int
    rule_ids: tuple[str, ...]
    after: str = ""


class Schedules(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An organisation's scheduled rules, by their ids, and the round that is under way."""

    dues: tuple[RuleDue, ...] = ()
    round: Round | None = None


NO_SCHEDULES = Schedules()


class SchedulesMoved(msgspec.Struct, frozen=True, array_like=True, tag=91):
    """The organisation's scheduled rules stand like this from now on. With `walked_ms` a step was done of the round of
    that time: the facts after this one, up to the next that answers a request or rang, are what it led to."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    at_ms: int
    schedules: Schedules
    walked_ms: int = 0
