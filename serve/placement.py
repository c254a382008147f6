"""Placement: which host should own which partition. Pure: from the hosts' health and the placement so far to the next.

Rules:
1. Safety never depends on this: of two hosts that both believe they own a partition, the journal lets one write.
2. Partitions move only for a reason: their owner is gone, nobody owns them, or (`may_rebalance`) loads differ by two or
   more.
3. A dead owner's partitions go, all together, to an idle host (the warm standby) if there is one, else to the least
   loaded.
4. As long as there are more live hosts than `active_max`, one is left without partitions: the next standby.
5. What an operator placed (`moved`) stays there while that host lives, whatever the loads; the standby may become
   active by it.
6. Same input, same output: ties go by name and number.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import msgspec

from gateway.ports import Placement


class Move(msgspec.Struct, frozen=True, order=True):
    """Partition `partition` goes from `source` ("" if nobody alive has it) to `target`."""

    partition: int
    source: str
    target: str


def initial(live: Collection[str], active_max: int, partition_count: int) -> dict[str, list[int]]:
    """Spreads all partitions over the first `active_max` live hosts; nobody owns any while no host is alive."""
    owners = sorted(live, key=_number)[:active_max]
    return {owner: list(range(index, partition_count, len(owners))) for index, owner in enumerate(owners)}


def next_placement(
    current: Placement | None,
    live: Collection[str],
    active_max: int,
    partition_count: int,
    *,
    may_rebalance: bool = False,
) -> Placement | None:
    """The placement that should hold now; `current` itself when nothing needs to change (None while nobody is alive).

    Raises `ValueError` when `current` was made for another number of partitions: that number is fixed for good.
    """
    if current is None:
        return Placement(1, partition_count, initial(live, active_max, partition_count)) if live else None
    if current.partition_count != partition_count:
        raise ValueError(f"it has {current.partition_count} partitions, not {partition_count}: that cannot be changed")
    if not live:
        return current
    owned = {name: sorted(current.hosts.get(name, ())) for name in live}
    pins = {partition: host for partition, host in current.pins.items() if host in live}
    _give_away_orphans(owned, current, active_max)
    if may_rebalance:
        _balance(owned, active_max, pins)
    hosts = {name: partitions for name, partitions in sorted(owned.items()) if partitions}
    is_same = hosts == {name: sorted(partitions) for name, partitions in current.hosts.items() if partitions}
    if is_same and pins == current.pins:
        return current
    return Placement(current.version + 1, partition_count, hosts, pins)


def moved(current: Placement | None, partition: int, target: str, live: Collection[str]) -> Placement:
    """The placement with a partition where an operator wants it; `target` "": it may go wherever loads are level again.
    Raises `ValueError`, which says what is wrong, when that cannot be."""
    if current is None:
        raise ValueError("nothing is placed yet")
    if not 0 <= partition < current.partition_count:
        raise ValueError(f"there is no partition {partition}: they are 0 to {current.partition_count - 1}")
    if target and target not in live:
        raise ValueError(f"{target} is not running; these are: {', '.join(sorted(live, key=_number))}")
    pins = {number: host for number, host in current.pins.items() if number != partition}
    hosts = {name: list(partitions) for name, partitions in current.hosts.items()}
    if target:
        pins[partition] = target
        hosts = {name: [one for one in partitions if one != partition] for name, partitions in hosts.items()}
        hosts[target] = sorted([*hosts.get(target, ()), partition])
    hosts = {name: partitions for name, partitions in sorted(hosts.items()) if partitions}
    return Placement(current.version + 1, current.partition_count, hosts, pins)


def moves(before: Placement | None, after: Placement, live: Collection[str]) -> list[Move]:
    """What has to be done to get from one placement to the next, in order of partitions."""
    old = _owner_by_partition(before.hosts if before else {})
    new = _owner_by_partition(after.hosts)
    return sorted(
        Move(partition, old[partition] if old.get(partition) in live else "", target)
        for partition, target in new.items()
        if old.get(partition) != target
    )


def _give_away_orphans(owned: dict[str, list[int]], current: Placement, active_max: int) -> None:
    """Finds new owners for what dead hosts had, host by host, then for what nobody had."""
    placed = set[int]()
    for partitions in owned.values():
        placed.update(partitions)
    for name in sorted(current.hosts, key=_number):
        orphans = [partition for partition in sorted(current.hosts[name]) if partition not in placed]
        if name in owned or not orphans:
            continue
        placed.update(orphans)
        idle = _idle(owned)
        if idle and _active_count(owned) < active_max:
            owned[idle[0]] = orphans
        else:
            _give_to_least_loaded(owned, orphans, active_max)
    _give_to_least_loaded(owned, [p for p in range(current.partition_count) if p not in placed], active_max)


def _give_to_least_loaded(owned: dict[str, list[int]], partitions: Iterable[int], active_max: int) -> None:
    for partition in partitions:
        candidates = [name for name in owned if owned[name]]
        if len(candidates) < active_max:
            candidates = list(owned)
        target = min(candidates, key=lambda name: (len(owned[name]), _number(name)))
        owned[target] = sorted([*owned[target], partition])


def _balance(owned: dict[str, list[int]], active_max: int, pins: Mapping[int, str]) -> None:
    """Levels the loads of as many hosts as may be active; a host more than those stays (or becomes) the standby."""
    by_load = sorted(owned, key=lambda name: (-len(owned[name]), _number(name)))
    active = by_load[: min(active_max, len(by_load))]
    for name in by_load[len(active) :]:
        surplus = [partition for partition in owned[name] if partition not in pins]
        owned[name] = [partition for partition in owned[name] if partition in pins]
        for partition in surplus:
            target = min(active, key=lambda other: (len(owned[other]), _number(other)))
            owned[target] = sorted([*owned[target], partition])
    while True:
        movable = {name: [partition for partition in owned[name] if partition not in pins] for name in active}
        givers = [name for name in active if movable[name]]
        emptiest = min(active, key=lambda name: (len(owned[name]), _number(name)))
        fullest = max(givers, key=lambda name: (len(owned[name]), -_number(name)[0]), default=emptiest)
        if len(owned[fullest]) - len(owned[emptiest]) <= 1:
            return
        owned[fullest].remove(movable[fullest][-1])
        owned[emptiest] = sorted([*owned[emptiest], movable[fullest][-1]])


def _idle(owned: Mapping[str, list[int]]) -> list[str]:
    return sorted((name for name, partitions in owned.items() if not partitions), key=_number)


def _active_count(owned: Mapping[str, list[int]]) -> int:
    return sum(1 for partitions in owned.values() if partitions)


def _owner_by_partition(hosts: Mapping[str, list[int]]) -> dict[int, str]:
    return {partition: name for name, partitions in hosts.items() for partition in partitions}


def _number(name: str) -> tuple[int, str]:
    """host-10 comes after host-9; a name without a number comes first."""
    digits = name.rpartition("-")[2]
    return (int(digits) if digits.isdigit() else -1, name)
