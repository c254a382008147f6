"""Double entry: the account of the organisation that each posting to a card is drawn on. Pure.

Rules:
1. What a card gets an account of its organisation gives, so all accounts of an organisation, its cards' and its own,
   sum to zero after every fact.
2. Which account it is follows from the card's account, the kind of the entry and the sign of its amount. Facts carry
   the balance of the account after them, not its name: this table is part of the released format, and never changes
   for a kind that there is. Facts from before there were accounts tell no balance; they count by the same table.
3. A transfer goes through an account of its own, which is at zero again once both cards have their part.
"""

from __future__ import annotations

from typing import Final

from actors.terms import Account, EntryKind

POINTS_ISSUED: Final = "points:issued"
CONTRA: dict[tuple[Account, EntryKind], str] = {
    ("points", "award"): POINTS_ISSUED,
    ("points", "redeem"): "points:redeemed",
    ("points", "capture"): "points:redeemed",
    ("points", "expire"): "points:expired",
    ("points", "transfer"): "points:transferred",
    ("wallet", "top_up"): "wallet:topped_up",
    ("wallet", "pay"): "wallet:spent",
    ("wallet", "capture"): "wallet:spent",
    ("wallet", "transfer"): "wallet:transferred",
}
# A reversal goes back to where the original came from: what is taken was given, what is given back was spent.
_REVERSED: dict[tuple[Account, bool], str] = {
    ("points", True): POINTS_ISSUED,
    ("points", False): "points:redeemed",
    ("wallet", True): "wallet:topped_up",
    ("wallet", False): "wallet:spent",
}


def contra_of(account: Account, kind: EntryKind, amount: int) -> str:
    """The organisation's account against which an entry that moves an amount is posted (rule 2)."""
    return CONTRA.get((account, kind)) or _REVERSED[account, amount <= 0]
