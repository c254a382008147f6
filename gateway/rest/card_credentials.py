"""A card's credential, to print, to write on a tag or to show on a phone; and the public keys for doors without a
network.

Rules:
1. A credential is made when it is asked for; nothing of it is stored.
2. A phone gets codes, never the secret that makes them: those of now, and up to an hour's more for when it loses its
   network. What is read out of a phone is then worth nothing within the hour; a secret would be good until the card is
   issued again. Rotation deters screenshots; that nobody is admitted twice is decided by the engine.
3. Whoever may have the static credential may have the rotating one, and nobody else: neither tells more than the other.
4. Public keys are an organisation's: all that are accepted, the retired ones gone. A scanner asks again when it meets a
   key id that it does not know.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Response

from actors.refusals import CARD_REVOKED
from actors.replies import CardView
from gateway.credential_images import ndef_text, qr_png, qr_svg
from gateway.limits import ROTATING_CODES_AHEAD_MAX, ROTATING_STEP_MS
from gateway.problems import FieldError, Problem
from gateway.rest.cards import seen_card
from gateway.rest.common import Allowed, Call, PathId, View, binary
from gateway.rotating import step_of

Holder = Annotated[Call, Depends(Allowed("cards.credential"))]
KeyReader = Annotated[Call, Depends(Allowed("cards.keys"))]
router = APIRouter(tags=["cards"])
_HOUR_MS = 3_600_000
Format = Literal["text", "png", "svg", "ndef", "rotating"]


class CredentialView(View):
    """`credential` is the text of the QR code."""

    card_id: str
    credential: str


class RotatingCredentialView(CredentialView):
    """`credential` is the text of the QR code for `changes_in_ms` more; it is `base` and the first of `codes`. The
    further codes are those of the steps after, each `step_ms` long. The door takes a code a step early or late."""

    base: str
    codes: list[str]
    step_ms: int
    changes_in_ms: int


class CredentialKeyView(View):
    """A public key as a JSON Web Key (RFC 8037). `kid` is the number that the credential's protected header has in its
    key id, one byte."""

    kty: Literal["OKP"] = "OKP"
    crv: Literal["Ed25519"] = "Ed25519"
    use: Literal["sig"] = "sig"
    alg: Literal["EdDSA"] = "EdDSA"
    kid: str
    x: str


class CredentialKeySetView(View):
    """A JSON Web Key Set: the keys whose credentials are accepted."""

    keys: list[CredentialKeyView]


@router.get(
    "/v1/cards/{card_id}/credential",
    summary="The card's signed credential",
    response_model=None,
    responses={
        200: {
            "model": CredentialView | RotatingCredentialView,
            "description": "As JSON, or in the format asked for",
            "content": {
                "text/plain": {"schema": {"type": "string"}},
                "image/png": {"schema": {"type": "string", "format": "binary"}},
                "image/svg+xml": {"schema": {"type": "string"}},
                "application/vnd.ndef": {"schema": {"type": "string", "format": "binary"}},
            },
        }
    },
)
async def credential(
    card_id: PathId,
    call: Holder,
    format: Annotated[Format | None, Query()] = None,
    rotating: Annotated[bool, Query()] = False,
    ahead: Annotated[int, Query(ge=0, le=ROTATING_CODES_AHEAD_MAX)] = 0,
) -> Response | CredentialView:
    """Without `format`: JSON. `text`, `png` and `svg` are the QR code's text and picture, `ndef` an NFC tag's message.
    `rotating` is JSON for a phone that shows a code which changes every 15 seconds, with the codes of the `ahead` steps
    after this one; text and pictures are of the code of now with `rotating=true`."""
    is_rotating = rotating or format == "rotating"
    if format == "ndef" and is_rotating:
        raise _misused("rotating", "A tag cannot change what it says.")
    if ahead and not (is_rotating and format in (None, "rotating")):
        raise _misused("ahead", "Only format=rotating has codes of later.")
    view = await seen_card(call, card_id)
    if view.state == "revoked":
        raise Problem(CARD_REVOKED, "A revoked card has no credential.")
    now_ms = call.parts.clock_ms()
    # A phone asks again and again: for an hour it gets the same text but for the code, so that its signature is checked
    # once at the door.
    issued_at_ms = now_ms - now_ms % _HOUR_MS if is_rotating else now_ms
    base = call.parts.credentials.issue(
        call.tenant_id,
        card_id,
        view.tier,
        issued_at_ms,
        view.valid_from_ms,
        view.valid_until_ms,
        view.serial,
        is_rotating=is_rotating,
    )
    codes = _codes(call, view, now_ms, ahead) if is_rotating else []
    text = base + codes[0] if codes else base
    if format is None or format == "rotating":
        if not codes:
            return CredentialView(card_id=card_id, credential=text)
        return RotatingCredentialView(
            card_id=card_id,
            credential=text,
            base=base,
            codes=codes,
            step_ms=ROTATING_STEP_MS,
            changes_in_ms=ROTATING_STEP_MS - now_ms % ROTATING_STEP_MS,
        )
    return _rendered(text, format)


@router.get("/v1/orgs/{org_id}/credential-keys", summary="Public keys of card credentials")
async def credential_keys(org_id: PathId, call: KeyReader) -> CredentialKeySetView:
    """For scanners that judge without a network, together with `GET /v1/cards/revocations`."""
    call = call.in_org(org_id)
    public = call.parts.credentials.public_keys(call.tenant_id)
    return CredentialKeySetView(keys=[CredentialKeyView(kid=str(key_id), x=_base64(x)) for key_id, x in public.items()])


def _codes(call: Call, view: CardView, now_ms: int, ahead: int) -> list[str]:
    """The code of now and those of the steps after."""
    first = step_of(now_ms)
    codes = call.parts.credentials.codes
    return [codes.code(call.tenant_id, view.card_id, view.serial, step) for step in range(first, first + ahead + 1)]


def _rendered(text: str, format: Format) -> Response:
    if format == "png":
        return binary(qr_png(text), "image/png")
    if format == "svg":
        return binary(qr_svg(text), "image/svg+xml")
    if format == "ndef":
        return binary(ndef_text(text), "application/vnd.ndef")
    return binary(text.encode(), "text/plain; charset=utf-8")


def _misused(parameter: str, detail: str) -> Problem:
    return Problem("malformed", detail, [FieldError(detail, parameter=parameter)])


def _base64(data: bytes) -> str:
    """Without padding, RFC 7515 §2."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()
