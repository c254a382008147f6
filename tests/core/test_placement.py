"""Placement as a table: what the supervisor sees, and what it must decide."""

from __future__ import annotations

import pytest

from gateway.ports import Placement
from serve.placement import Move, initial, moved, moves, next_placement

A, B, C, D = "host-0", "host-1", "host-2", "host-3"


def placed(**hosts: list[int]) -> dict[str, list[int]]:
    return {name.replace("_", "-"): partitions for name, partitions in hosts.items()}


# what it says | placement so far | live hosts | active_max | may rebalance | next owners (None: no change)
TABLE: list[tuple[str, dict[str, list[int]] | None, set[str], int, bool, dict[str, list[int]] | None]] = [
    ("nobody alive, nothing placed", None, set(), 2, False, None),
    ("first start leaves a standby", None, {A, B, C}, 2, False, placed(host_0=[0, 2], host_1=[1, 3])),
    ("first start with too few hosts", None, {B}, 2, False, placed(host_1=[0, 1, 2, 3])),
    ("all well", placed(host_0=[0, 2], host_1=[1, 3]), {A, B, C}, 2, False, None),
    ("all well, and balanced already", placed(host_0=[0, 2], host_1=[1, 3]), {A, B, C}, 2, True, None),
    ("standby died", placed(host_0=[0, 2], host_1=[1, 3]), {A, B}, 2, True, None),
    (
        "owner died, standby takes all",
        placed(host_0=[0, 2], host_1=[1, 3]),
        {B, C},
        2,
        False,
        placed(host_1=[1, 3], host_2=[0, 2]),
    ),
    ("the only owner died", placed(host_0=[0, 1, 2, 3]), {B}, 1, False, placed(host_1=[0, 1, 2, 3])),
    ("owner died, no standby left", placed(host_0=[0, 2], host_1=[1, 3]), {B}, 2, False, placed(host_1=[0, 1, 2, 3])),
    ("both owners died", placed(host_0=[0, 2], host_1=[1, 3]), {C}, 2, False, placed(host_2=[0, 1, 2, 3])),
    ("everybody died: keep, they may come back", placed(host_0=[0, 2], host_1=[1, 3]), set(), 2, True, None),
    ("the dead come back as standby", placed(host_1=[1, 3], host_2=[0, 2]), {A, B, C}, 2, True, None),
    ("crowded, hosts are back, not steady yet", placed(host_2=[0, 1, 2, 3]), {A, B, C}, 2, False, None),
    (
        "crowded, hosts are back: balance, one stays idle",
        placed(host_2=[0, 1, 2, 3]),
        {A, B, C},
        2,
        True,
        placed(host_0=[2, 3], host_2=[0, 1]),
    ),
    (
        "fewer hosts configured",
        placed(host_0=[0], host_1=[1], host_2=[2], host_3=[3]),
        {A, B},
        1,
        True,
        placed(host_0=[0, 1, 2, 3]),
    ),
    (
        "more hosts configured",
        placed(host_0=[0, 1, 2, 3]),
        {A, B, C, D},
        3,
        True,
        placed(host_0=[0, 1], host_1=[3], host_2=[2]),
    ),
    (
        "nobody had partition 3",
        placed(host_0=[0, 2], host_1=[1]),
        {A, B, C},
        2,
        False,
        placed(host_0=[0, 2], host_1=[1, 3]),
    ),
    ("an unknown host is a dead one", placed(elsewhere=[0, 1, 2, 3]), {A, B}, 1, False, placed(host_0=[0, 1, 2, 3])),
]


@pytest.mark.parametrize("row", TABLE, ids=[row[0] for row in TABLE])
def test_table(row: tuple[str, dict[str, list[int]] | None, set[str], int, bool, dict[str, list[int]] | None]) -> None:
    _, before, live, active_max, may_rebalance, expected = row
    current = None if before is None else Placement(7, 4, before)
    after = next_placement(current, live, active_max, 4, may_rebalance=may_rebalance)
    if expected is None:
        assert after is current
    else:
        assert after is not None
        assert after.hosts == expected
        assert after.version == (8 if current else 1)


@pytest.mark.parametrize("row", TABLE, ids=[row[0] for row in TABLE])
def test_every_partition_has_one_owner_and_the_answer_is_stable(
    row: tuple[str, dict[str, list[int]] | None, set[str], int, bool, dict[str, list[int]] | None],
) -> None:
    _, before, live, active_max, may_rebalance, _ = row
    current = None if before is None else Placement(7, 4, before)
    after = next_placement(current, live, active_max, 4, may_rebalance=may_rebalance)
    if after is None or not live:
        return
    owners = [partition for partitions in after.hosts.values() for partition in partitions]
    assert sorted(owners) == [0, 1, 2, 3]
    assert set(after.hosts) <= live
    assert next_placement(after, live, active_max, 4, may_rebalance=may_rebalance) is after


def test_partition_count_is_fixed() -> None:
    with pytest.raises(ValueError, match="cannot be changed"):
        next_placement(Placement(1, 8, {A: list(range(8))}), {A}, 1, 16)


def test_moves_name_only_live_sources() -> None:
    before = Placement(1, 4, {A: [0, 2], B: [1, 3]})
    after = Placement(2, 4, {B: [1], C: [0, 2, 3]})
    assert moves(before, after, {B, C}) == [Move(0, "", C), Move(2, "", C), Move(3, B, C)]
    assert moves(None, after, {B, C}) == [Move(0, "", C), Move(1, "", B), Move(2, "", C), Move(3, "", C)]


def test_ten_comes_after_nine() -> None:
    assert list(initial({f"host-{n}" for n in range(12)}, 11, 11)) == [f"host-{n}" for n in range(11)]


# --- what an operator moves -------------------------------------------------------------------------------------------


def test_a_partition_goes_where_an_operator_wants_it() -> None:
    after = moved(Placement(7, 4, {A: [0, 2], B: [1, 3]}), 2, C, {A, B, C})
    assert after == Placement(8, 4, {A: [0], B: [1, 3], C: [2]}, {2: C})


def test_it_stays_there_when_loads_are_levelled() -> None:
    crowded = Placement(7, 4, {A: [0, 1, 2, 3]})
    for partition in (0, 1, 2):
        crowded = moved(crowded, partition, A, {A, B})
    level = next_placement(crowded, {A, B}, 2, 4, may_rebalance=True)
    assert level is not None
    assert level.hosts == {A: [0, 1, 2], B: [3]}, "only what is not pinned moves, even if loads stay uneven"
    assert level.pins == {0: A, 1: A, 2: A}
    assert next_placement(level, {A, B}, 2, 4, may_rebalance=True) is level


def test_it_may_make_the_standby_active() -> None:
    current = moved(Placement(7, 4, {A: [0, 1, 2, 3]}), 3, B, {A, B})
    assert next_placement(current, {A, B}, 1, 4, may_rebalance=True) is current


def test_the_wish_ends_with_the_host() -> None:
    current = moved(Placement(7, 4, {A: [0, 2], B: [1, 3]}), 2, C, {A, B, C})
    after = next_placement(current, {A, B}, 2, 4)
    assert after is not None
    assert after.pins == {}
    assert sorted(after.hosts[A] + after.hosts[B]) == [0, 1, 2, 3]
    back = next_placement(after, {A, B, C}, 2, 4, may_rebalance=True)
    assert back is after, "a host that comes back gets nothing by an old wish"


def test_the_wish_can_be_taken_back() -> None:
    current = moved(Placement(7, 4, {A: [0, 2], B: [1, 3]}), 2, B, {A, B})
    free = moved(current, 2, "", {A, B})
    assert free == Placement(9, 4, {A: [0], B: [1, 2, 3]}, {})
    level = next_placement(free, {A, B}, 2, 4, may_rebalance=True)
    assert level is not None
    assert sorted(map(len, level.hosts.values())) == [2, 2]


@pytest.mark.parametrize(
    ("current", "partition", "target", "why"),
    [
        (None, 0, A, "nothing is placed yet"),
        (Placement(1, 4, {A: [0, 1, 2, 3]}), 4, A, "no partition 4: they are 0 to 3"),
        (Placement(1, 4, {A: [0, 1, 2, 3]}), 0, D, "host-3 is not running; these are: host-0, host-1"),
    ],
)
def test_what_cannot_be_says_why(current: Placement | None, partition: int, target: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        moved(current, partition, target, {A, B})
