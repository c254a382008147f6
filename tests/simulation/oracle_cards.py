"""The second opinion on a card's life and its tag, worked out anew from semantics.md ("Verdicts", "Credentials")."""

from __future__ import annotations

from typing import Any

from actors.card_commands import AssignTag, CardCommand, ReissueCard, RenewCard, SetCardTier
from actors.commands import CheckIn
from tests.simulation.oracle_doors import DoorOracle
from tests.simulation.oracle_points import Expected, refused
from tests.simulation.oracle_tiers import TierOracle


class CardOracle(DoorOracle, TierOracle):
    """The part of the oracle that knows tags. A tag is found by whose card names it, so no card can have two."""

    def __init__(self) -> None:
        super().__init__()
        # By tenant and UID, of all tags that were ever named: the last counter that was accepted.
        self.counters: dict[tuple[str, str], int] = {}
        self.issued: dict[str, int] = {}

    def number(self, tenant_id: str) -> int:
        """The next card's number."""
        self.issued[tenant_id] = self.issued.get(tenant_id, 0) + 1
        return self.issued[tenant_id]

    def tapped_card(self, command: CheckIn) -> str:
        """Whose card the tag is, "" for nobody's."""
        for card_id, card in self.cards.items():
            if card["tenant"] == command.tenant_id and card["tag"] == command.tag_uid:
                return card_id
        return ""

    def shown(self, command: CheckIn, card: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Why what was shown of the card is not good ("" if it is), and what is told of the tag."""
        if not command.tag_uid:
            return ("" if command.serial == card["serial"] else "credential_invalid"), {}
        key = (command.tenant_id, command.tag_uid)
        is_new = command.tag_counter > self.counters[key]
        if is_new:
            self.counters[key] = command.tag_counter
        told = {"tag_uid": command.tag_uid, "tag_counter": self.counters[key]}
        return ("" if is_new else "credential_replayed"), told

    def about_card(self, command: CardCommand) -> list[Expected]:
        """What is asked about a card."""
        card = self.cards[command.card_id]
        gone = card["state"] == "revoked"
        if isinstance(command, AssignTag):
            return refused("card_revoked") if gone else self._assign(command, card)
        if isinstance(command, ReissueCard):
            if gone:
                return refused("card_revoked")
            card["serial"] += 1
            return [("CardReissued", {"serial": card["serial"], "state": card["state"]})]
        if isinstance(command, RenewCard):
            starts, ends = command.valid_from_ms, command.valid_until_ms
            if gone:
                return refused("card_revoked")
            if ends and (ends <= starts or ends <= self.at_ms):
                return refused("expiry_invalid")
            card["valid"] = (starts, ends)
            return [("CardRenewed", {"valid_from_ms": starts, "valid_until_ms": ends})]
        if isinstance(command, SetCardTier):
            if gone:
                return refused("card_revoked")
            if 0 < command.until_ms <= self.at_ms:
                return refused("expiry_invalid")
            if command.until_ms and self.tenants[command.tenant_id]["tiers"] is None:
                return refused("terms_invalid")
            return self.set_tier(command.card_id, command.tier, command.until_ms)
        if not card["tag"]:
            return refused("tag_unknown")
        return [self._removed(command.tenant_id, card)]

    def _removed(self, tenant_id: str, card: dict[str, Any]) -> Expected:
        uid, card["tag"] = card["tag"], ""
        return ("TagRemoved", {"tag_uid": uid, "counter": self.counters[tenant_id, uid]})

    def _assign(self, command: AssignTag, card: dict[str, Any]) -> list[Expected]:
        uid, key = command.tag_uid, (command.tenant_id, command.tag_uid)
        others = [other for other in self.cards.values() if other is not card and other["tenant"] == card["tenant"]]
        if any(other["tag"] == uid for other in others):
            return refused("tag_in_use")
        expected = [self._removed(command.tenant_id, card)] if card["tag"] not in ("", uid) else []
        if key not in self.counters:
            self.counters[key] = 0
            expected.append(("TagEnrolled", {"card_id": "", "tag_uid": uid, "counter": 0}))
        card["tag"] = uid
        return [*expected, ("TagAssigned", {"card_id": command.card_id, "tag_uid": uid, "counter": self.counters[key]})]
