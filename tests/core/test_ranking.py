"""The order of a board against a plain sort: any changes, ties, and members that come with an earlier position."""

from __future__ import annotations

from itertools import islice
from random import Random

import pytest

from actors.ranking import Ranking

# Few scores: many ties. The large ones need many levels.
SCORES_MAX = (1, 3, 70, 5_000, 10**15)


def in_order(members: dict[str, tuple[int, int]]) -> list[tuple[str, int]]:
    ranked = sorted((-score, reached, member_id) for member_id, (score, reached) in members.items())
    return [(member_id, -negative) for negative, _, member_id in ranked]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("score_max", SCORES_MAX)
def test_after_any_changes_the_order_is_that_of_a_sort(score_max: int, seed: int) -> None:
    random = Random(seed)
    ranking = Ranking()
    members: dict[str, tuple[int, int]] = {}
    for step in range(6_000):
        member_id = f"card_{random.randrange(2_000)}"
        if member_id in members:
            ranking.remove(member_id, *members.pop(member_id))
        if random.random() < 0.8:
            reached = step if random.random() < 0.95 else random.randrange(step + 1)
            members[member_id] = (random.randint(1, score_max), reached)
            ranking.add(member_id, *members[member_id])
        if step % 500 == 0:
            check(ranking, members, random)
    check(ranking, members, random)
    for member_id, place in members.items():
        ranking.remove(member_id, *place)
    assert list(ranking.after(0)) == []


def check(ranking: Ranking, members: dict[str, tuple[int, int]], random: Random) -> None:
    wanted = in_order(members)
    assert list(ranking.after(0)) == wanted
    for rank, (member_id, _) in enumerate(wanted, 1):
        assert ranking.rank(member_id, *members[member_id]) == rank
    for skipped in (1, random.randrange(len(wanted) + 1), len(wanted), len(wanted) + 5):
        assert list(islice(ranking.after(skipped), 20)) == wanted[skipped : skipped + 20]


def test_members_of_the_same_position_stand_by_their_ids() -> None:
    ranking = Ranking()
    for member_id in ("c", "a", "b"):
        ranking.add(member_id, 5, 7)
    ranking.remove("a", 5, 7)
    ranking.add("a", 5, 7)
    assert list(ranking.after(0)) == [("a", 5), ("b", 5), ("c", 5)]
