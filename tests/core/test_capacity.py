"""What carries a load, and what gives way first."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from loadtest.capacity.__main__ import ANSWERS, costs_of
from loadtest.capacity.model import GIB, Costs, Machine, Usage, breaking, plan

LOADS = st.floats(1, 5_000_000)


@given(LOADS)
def test_what_is_planned_carries_the_load(load: float) -> None:
    costs, machine = Costs(), Machine()
    found = plan(Usage(check_ins_per_s=load), costs, machine)
    planned = {kind: need.cores * machine.utilisation * 1e6 for kind, need in found.needs.items()}
    assert planned["host"] >= load * costs.host_us * (1 - 1e-6)
    assert planned["redis"] >= load * costs.redis_us * (1 - 1e-6)
    assert planned["projector"] >= load * costs.projector_us * (1 - 1e-6)
    assert planned["postgres"] >= load * costs.postgres_us * (1 - 1e-6)
    assert planned["gateway"] >= load * (costs.gateway_us + costs.read_us) * (1 - 1e-6)
    assert found.machines * machine.cores >= sum(need.cores for need in found.needs.values())


@given(LOADS, st.floats(1, 10))
def test_more_load_never_takes_less(load: float, times: float) -> None:
    one, other = (plan(Usage(check_ins_per_s=each), Costs(), Machine()) for each in (load, load * times))
    assert all(one.needs[kind].units <= other.needs[kind].units for kind in one.needs)
    assert one.price_per_month <= other.price_per_month


@pytest.mark.parametrize(
    ("usage", "costs", "kind", "units", "bound_by"),
    [
        # 0.6 of a core is 600,000 us a second.
        (Usage(check_ins_per_s=60_000), Costs(host_us=20.0), "host", 2, "CPU"),
        (Usage(check_ins_per_s=60_001), Costs(host_us=20.0), "host", 3, "CPU"),
        # A core comes with 4 GiB, 0.6 of which are planned.
        (Usage(check_ins_per_s=1, cards=12e6 * GIB / 1e9), Costs(card_bytes=1_000.0), "host", 1, "memory of cards"),
        (Usage(check_ins_per_s=1, cards=24e6 * GIB / 1e9), Costs(card_bytes=1_000.0), "host", 2, "memory of cards"),
        (Usage(check_ins_per_s=100_000), Costs(journal_bytes=1_200.0), "redis", 2, "bytes written"),
        (Usage(check_ins_per_s=90_000, kept_days=1.0), Costs(database_bytes=2_000.0), "postgres", 2, "bytes written"),
        (Usage(check_ins_per_s=1_000, kept_days=3_650.0), Costs(database_bytes=2_000.0), "postgres", 12, "bytes kept"),
    ],
)  # fmt: skip
def test_the_scarcest_resource_decides(usage: Usage, costs: Costs, kind: str, units: int, bound_by: str) -> None:
    need = plan(usage, costs, Machine()).needs[kind]
    assert (need.units, need.bound_by) == (units, bound_by)


def test_members_become_a_load() -> None:
    usage = Usage.of_members(30 * 86_400, visits_per_month=10.0, peak=5.0)
    assert usage.check_ins_per_s == pytest.approx(50.0)
    kept = plan(replace(usage, kept_days=2.0), Costs(database_bytes=1_000.0), Machine()).kept_gib
    assert kept == pytest.approx(10 * 2 * 86_400 * 1_000 / GIB), "bytes add up at the mean, not at the worst time"


def test_what_gives_way_first() -> None:
    costs, machine = Costs(host_us=100.0, gateway_us=1.0, read_us=0.0), Machine()
    order = breaking(costs, machine, Usage(check_ins_per_s=1))
    assert order[0] == ("host", "CPU", pytest.approx(6_000.0))
    assert [at for _, _, at in order] == sorted(at for _, _, at in order)
    assert {kind for kind, _, _ in order} == set(ANSWERS)
    assert plan(Usage(check_ins_per_s=1), costs, machine).tenant_max == pytest.approx(6_000.0)


def test_the_figures_of_a_benchmark_are_taken() -> None:
    used = {"gateway": 1.0, "host": 2.0, "redis": 3.0, "projector": 4.0, "postgres": 5.0, "client": 9.0}
    own = {"cpu_us_per_checkin": used, "journal_bytes_per_checkin": 6.0, "database_bytes_per_checkin": 7.0}
    found = costs_of({"mastervip": own})
    assert (found.gateway_us, found.host_us, found.redis_us, found.projector_us, found.postgres_us) == (1, 2, 3, 4, 5)
    assert (found.journal_bytes, found.database_bytes) == (6, 7)
