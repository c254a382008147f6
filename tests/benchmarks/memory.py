"""What a resident card takes of the host's memory: `python -m tests.benchmarks.memory [CARDS]`.

Rules:
1. Counted, not measured: the sizes of all objects that can be reached from the cards, each once, as the allocator
   rounds them. So the figure is the same on every machine, and a test may hold it to a limit.
2. What all cards share counts once, so it vanishes among many. A card's slot in the dictionary counts, and so do its
   key and the text of its member's name.
3. Cards are made as in production: facts are decoded from the journal, admissions are judged by the partition.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping

import msgspec

from actors.card import Card
from actors.coupon_terms import DAY_MS
from tests.benchmarks.town import TURN, Town

CARDS = 20_000
BYTES_MAX = 600  # of a card that was used: a million of them take 600 MB
_ALIGNMENT = 16  # of the allocator
_RESIDENT = 1_000_000


def bytes_of(cards: Iterable[Card]) -> int:
    """What the cards take, and all that can be reached from them."""
    seen: set[int] = set()
    total = 0
    left: list[object] = list(cards)
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        total += -(-sys.getsizeof(one) // _ALIGNMENT) * _ALIGNMENT
        if isinstance(one, msgspec.Struct):
            left += [getattr(one, name) for name in one.__struct_fields__]
        elif isinstance(one, tuple):
            left += one
    return total


def slot_bytes() -> float:
    """What a million cards' dictionary takes, for each."""
    return sys.getsizeof(dict.fromkeys(range(_RESIDENT))) / _RESIDENT


def bytes_each(cards: Mapping[str, Card]) -> float:
    """Bytes a card takes, all told, if a million of them are resident."""
    return bytes_of(cards.values()) / len(cards) + slot_bytes()


def visit(town: Town) -> None:
    """Every card goes in, and then out."""
    for _ in range(0, 2 * town.cards, TURN):
        assert town.take(town.scans(TURN)) == TURN
    town.entries.clear()


def measured(cards: int) -> dict[str, float]:
    """Bytes a card, as it was issued and after each of some visits on days of their own."""
    town = Town(cards)
    resident = town.partition.residents.cards
    assert len(resident) == cards
    found = {"fresh": bytes_each(resident)}
    for name in ("used once", "used on two days", "used on three days"):
        visit(town)
        assert all(card.entry_count and card.visits.ever for card in resident.values())
        found[name] = bytes_each(resident)
        town.now_ms += DAY_MS
    return found


def main() -> int:
    """The command."""
    cards = int(sys.argv[1]) if len(sys.argv) > 1 else CARDS
    lines = [f"{name:20}{size:8.0f} bytes a card" for name, size in measured(cards).items()]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
