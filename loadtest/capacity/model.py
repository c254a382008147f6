"""What is needed for a load, and what gives way first. Pure.

Rules:
1. A check-in costs each kind of process CPU time, and the journal and Postgres bytes (`Costs`, as the benchmark
   measures them). A kind that is one thread a process needs as many processes as its work fills threads; Postgres fills
   cores.
2. Nothing is planned fuller than `Machine.utilisation`: queues grow without bound before a core is full.
3. Units are counted by each resource that they have (CPU, memory, bytes written, bytes kept); the scarcest decides, and
   is named.
4. An organisation is one partition's, so one host's: the load of a single one is bounded by a thread (`tenant_max`).
5. Prices are assumptions, to be put in place by whoever reads: of a core with its memory, and of a GiB kept.
"""

from __future__ import annotations

from math import ceil
from typing import Final

import msgspec

DAY_S: Final = 86_400
MONTH_S: Final = 30 * DAY_S
HOURS_PER_MONTH: Final = 730
GIB: Final = 1024**3


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """CPU microseconds and bytes of a check-in; bytes of what is in memory. Defaults as ARCHITECTURE.md's figures
    (sockets, one scan a frame, three rules, all hardware threads busy)."""

    gateway_us: float = 28.0
    host_us: float = 32.0
    redis_us: float = 5.1
    projector_us: float = 21.0
    postgres_us: float = 21.0
    read_us: float = 150.0
    """Of a read over REST, gateway and host or Postgres together, counted to the gateway."""
    journal_bytes: float = 650.0
    database_bytes: float = 2_070.0
    card_bytes: float = 870.0
    socket_bytes: float = 15_200.0


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What people do. `check_ins_per_s` is the load that has to be carried, at the worst time; `mean_share` is the mean
    of a month as a share of that, by which bytes add up."""

    check_ins_per_s: float
    mean_share: float = 0.05
    reads_per_check_in: float = 1.0
    cards: float = 1_000_000
    active_share: float = 0.2
    """Of the cards, those that are in memory at the worst time."""
    sockets_per_check_in_per_s: float = 5.0
    """Scanners and live boards that are connected, for each check-in a second."""
    kept_days: float = 90.0

    @classmethod
    def of_members(cls, members: float, visits_per_month: float = 4.0, peak: float = 20.0, **more: float) -> Usage:
        """So many monthly members, each coming that often; the worst time has `peak` times the mean."""
        mean = members * visits_per_month / MONTH_S
        return cls(check_ins_per_s=mean * peak, mean_share=1 / peak, cards=members, **more)


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What is rented, and how full it is planned."""

    cores: int = 8
    memory_gib: float = 32.0
    utilisation: float = 0.6
    redis_write_mb_per_s: float = 100.0
    """Bytes that one Redis appends with an fsync before each answer."""
    postgres_write_mb_per_s: float = 150.0
    """Row bytes that a worker takes; its log and the pages come on top, and are in this figure."""
    postgres_kept_gib: float = 4_096.0
    core_price: float = 0.045
    """A core with its memory, an hour."""
    gib_price: float = 0.10
    """A GiB of disk, a month."""


class Need(msgspec.Struct, frozen=True):
    """How many of a unit, which resource decides, what the load fills of the units' planned capacity, and the cores."""

    units: int
    bound_by: str
    fills: float
    cores: float


class Plan(msgspec.Struct, frozen=True):
    """For a load: the needs by kind, machines, the price of a month, and the most that one organisation can do."""

    check_ins_per_s: float
    needs: dict[str, Need]
    machines: int
    kept_gib: float
    price_per_month: float
    tenant_max: float


def plan(usage: Usage, costs: Costs, machine: Machine) -> Plan:
    """What carries the load."""
    load, full = usage.check_ins_per_s, machine.utilisation
    mean = load * usage.mean_share
    kept = mean * DAY_S * usage.kept_days * costs.database_bytes
    core_memory = machine.memory_gib * GIB / machine.cores * full
    reads = usage.reads_per_check_in * costs.read_us
    sockets = load * usage.sockets_per_check_in_per_s
    active = usage.cards * usage.active_share
    needs = {
        "gateway": _need(
            {
                "CPU": load * (costs.gateway_us + reads) / 1e6 / full,
                "memory of sockets": sockets * costs.socket_bytes / core_memory,
            }
        ),
        "host": _need(
            {"CPU": load * costs.host_us / 1e6 / full, "memory of cards": active * costs.card_bytes / core_memory}
        ),
        "redis": _need(
            {
                "CPU": load * costs.redis_us / 1e6 / full,
                "bytes written": load * costs.journal_bytes / 1e6 / machine.redis_write_mb_per_s / full,
            }
        ),
        "projector": _need({"CPU": load * costs.projector_us / 1e6 / full}),
        "postgres": _need(
            {
                "CPU": load * costs.postgres_us / 1e6 / full / machine.cores,
                "bytes written": load * costs.database_bytes / 1e6 / machine.postgres_write_mb_per_s / full,
                "bytes kept": kept / GIB / machine.postgres_kept_gib / full,
            },
            machine.cores,
        ),
    }
    machines = ceil(sum(need.cores for need in needs.values()) / machine.cores)
    price = machines * machine.cores * machine.core_price * HOURS_PER_MONTH + kept / GIB * machine.gib_price
    return Plan(load, needs, machines, kept / GIB, price, full * 1e6 / costs.host_us)


def breaking(costs: Costs, machine: Machine, usage: Usage) -> list[tuple[str, str, float]]:
    """One of each unit, and a growing load: which gives way first, by what, and at how many check-ins a second. (What
    grows with the load alone; cards and bytes kept grow with the members.)"""
    one = plan(msgspec.structs.replace(usage, check_ins_per_s=1.0, cards=0.0, mean_share=0.0), costs, machine)
    found = [(kind, need.bound_by, 1 / need.fills) for kind, need in one.needs.items()]
    return sorted(found, key=lambda each: each[2])


def _need(shares: dict[str, float], cores_per_unit: int = 1) -> Need:
    """`shares`: how many units' worth of each resource the load takes."""
    bound_by = max(shares, key=lambda name: shares[name])
    units = max(1, ceil(shares[bound_by] - 1e-9))
    return Need(units, bound_by, shares[bound_by], units * cores_per_unit)
