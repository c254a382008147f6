"""An order of members by score, best first, then by who reached the score first. Pure.

Rules:
1. A change costs the same however many members there are: nothing is sorted or moved, only counts are kept. So a look
   costs the same after one change and after ten thousand.
2. Members of one score stand in a list in the order in which they came, which is that of `reached`, as positions only
   grow. Who leaves leaves a gap there; gaps are closed once they are more than the members.
3. Who comes with an earlier `reached` than the last one there (an order that is being loaded, a score that is taken
   back) waits until somebody looks at that score; then those who wait are sorted in together.
4. How many have a better score is counted by prefixes of `_DIGIT_BITS` more bits a level.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator
from itertools import islice

_DIGIT_BITS = 6
_DIGITS = 1 << _DIGIT_BITS
_BLOCK_BITS = 9
_BLOCK_PLACES = 1 << _BLOCK_BITS


class _Equals:
    """The members of one score (rules 2 and 3)."""

    __slots__ = ("_late", "_lives", "_members", "_reached", "count")

    def __init__(self) -> None:
        self.count = 0
        # By place: the member, None for a gap, and when it came.
        self._members: list[str | None] = []
        self._reached = array("q")
        # How many of each block of `_BLOCK_PLACES` places are no gaps; the last block's is the rest.
        self._lives: list[int] | None = None
        self._late: dict[str, int] | None = None

    def add(self, member_id: str, reached: int) -> None:
        self.count += 1
        if self._reached and reached <= self._reached[-1]:
            if self._late is None:
                self._late = {}
            self._late[member_id] = reached
            return
        place = len(self._members)
        self._members.append(member_id)
        self._reached.append(reached)
        if self._lives is not None:
            if place >> _BLOCK_BITS == len(self._lives):
                self._lives.append(0)
            self._lives[-1] += 1

    def remove(self, member_id: str, reached: int) -> None:
        self.count -= 1
        if self._late is not None and self._late.pop(member_id, None) is not None:
            return
        place = self._place(member_id, reached)
        self._members[place] = None
        if self._lives is not None:
            self._lives[place >> _BLOCK_BITS] -= 1
        if len(self._members) > 2 * self.count + _BLOCK_PLACES:
            self._settle()

    def index(self, member_id: str, reached: int) -> int:
        """How many stand before the member."""
        lives = self._in_order()
        place = self._place(member_id, reached)
        block = place >> _BLOCK_BITS
        within = self._members[block << _BLOCK_BITS : place]
        return sum(lives[:block]) + len(within) - within.count(None)

    def after(self, skipped: int) -> Iterator[str]:
        """The members but for the first ones."""
        lives = self._in_order()
        block = 0
        while block < len(lives) and skipped >= lives[block]:
            skipped -= lives[block]
            block += 1
        places = range(block << _BLOCK_BITS, len(self._members))
        members = (member_id for place in places if (member_id := self._members[place]) is not None)
        return islice(members, skipped, None)

    def _place(self, member_id: str, reached: int) -> int:
        place = bisect_left(self._reached, reached)
        while self._members[place] != member_id:
            place += 1
        return place

    def _in_order(self) -> list[int]:
        if self._late:
            self._settle()
        if self._lives is None:
            starts = range(0, len(self._members), _BLOCK_PLACES)
            blocks = (self._members[start : start + _BLOCK_PLACES] for start in starts)
            self._lives = [len(block) - block.count(None) for block in blocks]
        return self._lives

    def _settle(self) -> None:
        """Sorts in who waits, and closes the gaps."""
        pairs = zip(self._reached, self._members, strict=True)
        found = [(reached, member_id) for reached, member_id in pairs if member_id is not None]
        if self._late:
            found += [(reached, member_id) for member_id, reached in self._late.items()]
            found.sort()
        self._late = None
        self._members = [member_id for _, member_id in found]
        self._reached = array("q", [reached for reached, _ in found])
        self._lives = None


class Ranking:
    """Members with a score above zero, in order. Who takes one out says with which score and `reached` it is there."""

    def __init__(self) -> None:
        self._equals: dict[int, _Equals] = {}
        # By level above the scores themselves: how many members have a score with this prefix (rule 4).
        self._levels: list[dict[int, int]] = []

    def add(self, member_id: str, score: int, reached: int) -> None:
        """The member has this score since position `reached`."""
        while score >> _DIGIT_BITS * (len(self._levels) + 1):
            self._grow()
        equals = self._equals.get(score)
        if equals is None:
            equals = self._equals[score] = _Equals()
        equals.add(member_id, reached)
        for level in self._levels:
            score >>= _DIGIT_BITS
            level[score] = level.get(score, 0) + 1

    def remove(self, member_id: str, score: int, reached: int) -> None:
        """The member no longer has this score."""
        equals = self._equals[score]
        equals.remove(member_id, reached)
        if not equals.count:
            del self._equals[score]
        for level in self._levels:
            score >>= _DIGIT_BITS
            left = level[score] - 1
            if left:
                level[score] = left
            else:
                del level[score]

    def rank(self, member_id: str, score: int, reached: int) -> int:
        """The member's rank, from 1."""
        return self.rank_of(score) + self._equals[score].index(member_id, reached)

    def rank_of(self, score: int) -> int:
        """The rank that members of this score share, from 1: who is better comes before them."""
        before, prefix = 0, score
        for level in range(len(self._levels) + 1):
            before += sum(self._count(level, better) for better in range(prefix + 1, (prefix | _DIGITS - 1) + 1))
            prefix >>= _DIGIT_BITS
        return before + 1

    def after(self, skipped: int) -> Iterator[tuple[str, int]]:
        """The members with their scores in order, but for the first ones. Nothing may change meanwhile."""
        for score, in_score in self._walk(len(self._levels), 0, skipped):
            for member_id in self._equals[score].after(in_score):
                yield member_id, score

    def _walk(self, level: int, prefix: int, skipped: int) -> Iterator[tuple[int, int]]:
        """The scores with a prefix, best first, from the one where the skipping ends, with how many to skip there."""
        for longer in range((prefix << _DIGIT_BITS) + _DIGITS - 1, (prefix << _DIGIT_BITS) - 1, -1):
            count = self._count(level, longer)
            if skipped >= count:
                skipped -= count
                continue
            if level:
                yield from self._walk(level - 1, longer, skipped)
            else:
                yield longer, skipped
            skipped = 0

    def _count(self, level: int, prefix: int) -> int:
        if level:
            return self._levels[level - 1].get(prefix, 0)
        equals = self._equals.get(prefix)
        return equals.count if equals is not None else 0

    def _grow(self) -> None:
        below = self._levels[-1] if self._levels else {score: one.count for score, one in self._equals.items()}
        level: dict[int, int] = {}
        for prefix, count in below.items():
            level[prefix >> _DIGIT_BITS] = level.get(prefix >> _DIGIT_BITS, 0) + count
        self._levels.append(level)
