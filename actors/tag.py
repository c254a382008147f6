"""The virtual actor Tag: an NFC tag of an organisation, by its UID. State changes only in `apply`.

Rules:
1. A tag is one card's at most. Which card's it is may change; the counter stays with the tag.
2. A counter is accepted only if it is above the last one that was accepted, and is then used up, whatever else becomes
   of the scan. So a tap that was recorded lets nobody in a second time.
"""

from __future__ import annotations

import msgspec

from actors.card_facts import TagAssigned, TagEnrolled, TagFact, tag_id_of
from actors.facts import ScanJudged


class Tag(msgspec.Struct, gc=False):
    """A tag's state; `card_id` is "" while it is no card's, `counter` the last one accepted."""

    tenant_id: str
    tag_uid: str
    card_id: str = ""
    counter: int = 0
    position: int = 0

    @property
    def tag_id(self) -> str:
        """See `tag_id_of`."""
        return tag_id_of(self.tenant_id, self.tag_uid)

    @classmethod
    def enrolled(cls, fact: TagEnrolled, position: int) -> Tag:
        """The tag as it is when it is first named."""
        return cls(fact.tenant_id, fact.tag_uid, "", fact.counter, position)

    def apply(self, fact: TagFact | ScanJudged, position: int) -> None:
        """Takes in a fact about this tag."""
        if position <= self.position:
            return
        self.position = position
        if isinstance(fact, ScanJudged):
            assert fact.details is not None, "a scan of a tag tells its counter"
            self.counter = fact.details.tag_counter
        else:
            self.card_id = fact.card_id if isinstance(fact, TagAssigned) else ""
