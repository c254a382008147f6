"""What becomes of a card after its issue: a new credential, another validity or tier, an NFC tag.

Rules:
1. Issued again, a card keeps its id, points, tag and member; what was printed or shown before is dead at once, and
   scanners without a network are told (`gateway.rest.revocations`).
2. A credential says what was so when it was made. The engine goes by the card: by its tier at once, by its validity
   besides the credential's own. So after a renewal the credential is fetched again (or the card issued again, if the
   old one is to be worth nothing): what was printed before ends when it says.
3. A tag's keys are derived, never stored; they are told to whoever personalises it, and that they were is noted.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from pydantic import AfterValidator, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from actors.card_commands import AssignTag, ReissueCard, RemoveTag, RenewCard, SetCardTier
from actors.card_facts import CardReissued, CardRenewed, CardTierChanged, TagAssigned, TagRemoved
from actors.refusals import TAG_UNKNOWN
from actors.terms import Tier
from gateway.problems import Problem
from gateway.render import rfc3339_or_none
from gateway.rest.cards import Changer, StateChange, seen_card
from gateway.rest.common import Allowed, Body, Call, Note, PathId, Time, View, ms

Personaliser = Annotated[Call, Depends(Allowed("cards.tag_keys"))]
TagUid = Annotated[str, StringConstraints(pattern="^[0-9A-Fa-f]{14}$"), AfterValidator(str.upper)]
router = APIRouter(prefix="/v1/cards", tags=["cards"])


class Renewal(Body):
    """The validity from now on; what is left out is no bound."""

    valid_from: Time | None = None
    valid_until: Time | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Renewal:
        if self.valid_from and self.valid_until and self.valid_until <= self.valid_from:
            raise PydanticCustomError("validity_order", "valid_until must be after valid_from")
        return self


class TierChange(Body):
    """The tier, and why; with `until` nothing else moves it before that, and then it goes by points."""

    tier: Tier
    note: Note = ""
    until: Time | None = None


class NewTag(Body):
    """The UID that the tag was made with: seven bytes in hexadecimal."""

    uid: TagUid


class ReissuedCardView(View):
    """The new credential, the text of its QR code. Those of a lower `serial` are dead."""

    card_id: str
    serial: int
    credential: str


class CardValidityView(View):
    """When the card is valid; None: no bound."""

    id: str
    valid_from: str | None
    valid_until: str | None


class CardTierView(View):
    """The tier that the card has now."""

    id: str
    tier: str


class CardTagView(View):
    """The tag that the card has now."""

    card_id: str
    uid: str


class TagKeysView(CardTagView):
    """The keys to write into the tag, 16 bytes each in hexadecimal: K_SDMMetaRead and K_SDMFileRead."""

    meta_read: str
    file_read: str


@router.post("/{card_id}/reissue", summary="Give a card a new credential")
async def reissue(card_id: PathId, call: Changer, body: StateChange | None = None) -> ReissuedCardView:
    """Every credential that it had is refused with `credential_invalid` from now on, whoever shows it. A suspended card
    stays suspended."""
    note = body.note if body else ""
    fact = await call.tell(ReissueCard(call.tenant_id, call.request_id, b"", card_id, note), CardReissued)
    view = await seen_card(call, card_id)
    text = call.parts.credentials.issue(
        call.tenant_id, card_id, view.tier, fact.at_ms, view.valid_from_ms, view.valid_until_ms, fact.serial
    )
    return ReissuedCardView(card_id=card_id, serial=fact.serial, credential=text)


@router.post("/{card_id}/renew", summary="Set a card's validity")
async def renew(card_id: PathId, body: Renewal, call: Changer) -> CardValidityView:
    """Extends or shortens it. A credential that was made before ends when it says: fetch it again, or issue the card
    again."""
    command = RenewCard(call.tenant_id, call.request_id, b"", card_id, ms(body.valid_from), ms(body.valid_until))
    fact = await call.tell(command, CardRenewed)
    return CardValidityView(
        id=card_id,
        valid_from=rfc3339_or_none(fact.valid_from_ms),
        valid_until=rfc3339_or_none(fact.valid_until_ms),
    )


@router.post("/{card_id}/tier", summary="Put a card into a tier")
async def set_tier(card_id: PathId, body: TierChange, call: Changer) -> CardTierView:
    """Doors go by it at once. (What is printed into a credential is the tier of when it was made.) Where cards come
    into tiers by points, the next points may raise it again, and the next review lower it, unless there is an
    `until`."""
    command = SetCardTier(call.tenant_id, call.request_id, b"", card_id, body.tier, body.note, ms(body.until))
    fact = await call.tell(command, CardTierChanged)
    return CardTierView(id=card_id, tier=fact.tier)


@router.put("/{card_id}/tag", summary="Give a card an NFC tag")
async def assign_tag(card_id: PathId, body: NewTag, call: Changer) -> CardTagView:
    """In place of the one that it has. A tag that is another card's has to be taken from that one first. Taps are good
    once: a counter that was accepted stays used up, whoever's the tag is."""
    fact = await call.tell(AssignTag(call.tenant_id, call.request_id, b"", card_id, body.uid), TagAssigned)
    return CardTagView(card_id=card_id, uid=fact.tag_uid)


@router.delete("/{card_id}/tag", status_code=204, summary="Take a card's NFC tag from it")
async def remove_tag(card_id: PathId, call: Changer) -> Response:
    """Its taps are refused from now on with `credential_invalid`, until it is another card's."""
    await call.tell(RemoveTag(call.tenant_id, call.request_id, b"", card_id), TagRemoved)
    return Response(status_code=204)


@router.get("/{card_id}/tag/keys", summary="The keys to write into a card's NFC tag")
async def tag_keys(card_id: PathId, call: Personaliser, response: Response) -> TagKeysView:
    """For an NTAG 424 DNA that is personalised. Whoever has `file_read` can make taps of this tag."""
    view = await seen_card(call, card_id)
    if not view.tag_uid:
        raise Problem(TAG_UNKNOWN)
    keys = call.parts.credentials.tags.keys(call.tenant_id, bytes.fromhex(view.tag_uid))
    async with call.cold.connection() as connection:
        await call.note(connection, card_id, detail={"tag_uid": view.tag_uid})
    response.headers["Cache-Control"] = "no-store"
    return TagKeysView(
        card_id=card_id,
        uid=view.tag_uid,
        meta_read=keys.meta_read.hex().upper(),
        file_read=keys.file_read.hex().upper(),
    )
