"""Errors as clients see them: problem+json (RFC 9457) with a stable `code`, from one table.

Rules:
1. Every error of the REST API has a row in `TABLE`; its code is part of the contract and never changes its meaning.
2. `errors` names each bad field by JSON pointer (into the body) or by parameter name.
3. A foreign tenant's thing and an absent thing give the same answer, 404.
4. A check-in's verdict is no error (200); any other command that is refused is 409 with the refusal's code.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from actors import refusals
from actors.facts import CommandRefused
from actors.replies import Failed
from gateway import limits
from gateway.dispatcher import UNENCODABLE

PROBLEM_TYPE = b"application/problem+json"


class Row(msgspec.Struct, frozen=True):
    """What a code means: the status, a title that never varies and what the caller can do."""

    status: int
    title: str
    remedy: str


class FieldError(msgspec.Struct, frozen=True, omit_defaults=True):
    """One bad field: `pointer` into the JSON body, or `parameter` of path, query or header."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None


_LATER = "Try again after the time in Retry-After, with the same request id."
TABLE: dict[str, Row] = {
    "malformed": Row(400, "The request is malformed", "Correct the fields named in `errors`."),
    "cursor_invalid": Row(400, "The cursor is not valid here", "Start the list again without a cursor."),
    "password_weak": Row(400, "The password is too weak", "Choose one that is hard to guess; `detail` says why."),
    "credentials_invalid": Row(
        401, "E-mail address or password is wrong", "Check both; POST /v1/auth/forgot-password helps."
    ),
    "refresh_token_invalid": Row(401, "The refresh token is not valid", "Sign in again."),
    "unauthenticated": Row(
        401, "No valid credentials", "Send an access token, API key or device token that is in force."
    ),
    "forbidden": Row(403, "Not allowed with these credentials", "Use credentials with the needed role or scope."),
    "password_wrong": Row(403, "The current password is wrong", "Check it; POST /v1/auth/forgot-password helps."),
    "account_suspended": Row(403, "The account is suspended", "Ask whoever runs the platform."),
    "email_unverified": Row(
        403, "The e-mail address is not confirmed", "Confirm it; POST /v1/auth/resend-verification sends another mail."
    ),
    "wrong_event": Row(403, "The device is bound to another event", "Pair the device with this event."),
    "not_found": Row(404, "Not found", "Check the address."),
    "method_not_allowed": Row(405, "The method is not supported here", "See the Allow header and /docs."),
    "gone": Row(410, "This operation is no longer there", "Use what the Link header names."),
    "request_timeout": Row(408, "The request did not arrive in time", "Send it again, on a better connection."),
    refusals.PRECONDITION_FAILED: Row(412, "It has changed meanwhile", "Get it again, and decide again."),
    "body_too_large": Row(413, "The body is too large", "Send less, or in several requests."),
    "address_too_long": Row(414, "The address is too long", "Send less in the query."),
    "media_type_unsupported": Row(415, "The content type is not supported", "Send application/json."),
    "mail_token_invalid": Row(
        404, "The code from the mail is not valid", "It works once and for a while; ask for another mail."
    ),
    "account_unknown": Row(404, "Unknown account", "Check the id."),
    "session_unknown": Row(404, "Unknown session", "Check the id; it may have ended."),
    "pairing_code_invalid": Row(404, "The pairing code is not valid", "Make a new pairing code."),
    "email_taken": Row(409, "The e-mail address has an account", "Use another address."),
    "limit_reached": Row(409, "A limit is reached", "Remove something first."),
    refusals.ID_REUSED: Row(
        422, "The request id was used for another request", "Make a new request id for a new request."
    ),
    "headers_too_large": Row(431, "The headers are too large", "Send fewer and shorter headers."),
    "in_progress": Row(409, "The same request is being executed", _LATER),
    "rate_limited": Row(429, "Too many requests", _LATER),
    refusals.OVERLOADED: Row(429, "The engine is at its limit", _LATER),
    refusals.UNAVAILABLE: Row(503, "Not available now", _LATER),
    refusals.MOVED: Row(503, "Not available now", _LATER),
    refusals.HALTED: Row(
        503, "This organisation's partition is halted", "An operator has to look at it; try again later."
    ),
    refusals.INSUFFICIENT_FUNDS: Row(409, "Not enough money in the wallet", "Ask for less, or top it up first."),
    refusals.EXPIRY_INVALID: Row(409, "The time is not valid", "Choose a time in the future; see `detail`."),
    refusals.PENDING_INVALID: Row(
        409, "The points cannot be pending so long", "Choose a time in the future, before they expire."
    ),
    refusals.ENTRY_NOT_PENDING: Row(409, "The entry has no pending points", "Look at the balance; nothing is to do."),
    refusals.HOLD_UNKNOWN: Row(409, "The card has no such hold", "Check the entry; GET .../balance shows open holds."),
    refusals.HOLD_CAPTURED: Row(
        409, "The hold was captured", "To undo it, reverse the capture; of a coupon, roll it back."
    ),
    refusals.HOLD_RELEASED: Row(409, "The hold was released", "Make another hold, or redeem at once."),
    refusals.HOLD_LAPSED: Row(409, "The hold has lapsed", "Make another hold, or redeem at once."),
    refusals.TRANSFER_TO_ITSELF: Row(409, "Both cards are the same", "Name another card in to_card_id."),
    "internal": Row(500, "An error on our side", "Try again; tell us if it stays."),
    refusals.TENANT_UNKNOWN: Row(404, "Unknown organisation", "Check the id."),
    refusals.CARD_UNKNOWN: Row(404, "Unknown card", "Check the id."),
    refusals.EVENT_UNKNOWN: Row(404, "Unknown event", "Check the id."),
    refusals.BOARD_UNKNOWN: Row(
        404,
        "Unknown leaderboard",
        "Boards: points, visits, streak, and the organisation's own; windows: all, day, week, month, day:YYYYMMDD, "
        "week:YYYYWW, month:YYYYMM, event:ID.",
    ),
    refusals.COUPON_UNKNOWN: Row(404, "Unknown coupon or code", "Check the code for mistakes, or the id."),
    refusals.PAYOUT_UNKNOWN: Row(404, "Not paid out", "Check board and window; or pay it out."),
    refusals.REDEMPTION_UNKNOWN: Row(404, "Unknown redemption", "Check the id."),
    refusals.COUPON_NOT_ACTIVE: Row(409, "The coupon is not active", "It is a draft or paused; try it later."),
    refusals.COUPON_ENDED: Row(409, "The coupon has ended", "Nothing can be done with it any more."),
    refusals.COUPON_NOT_STARTED: Row(409, "It is too early for the coupon", "See when it is valid."),
    refusals.COUPON_EXPIRED: Row(409, "It is too late for the coupon", "Nothing can be done with it any more."),
    refusals.COUPON_NOT_FOR_CARD: Row(409, "The coupon is for other cards", "Use one that is for this card."),
    refusals.COUPON_ALREADY_USED: Row(409, "The code is used up", "Use another code."),
    refusals.COUPON_WITHDRAWN: Row(
        409, "The coupon was withdrawn", "What it was granted for was annulled; use another."
    ),
    refusals.COUPON_ON_HOLD: Row(409, "The code is on hold", "Capture or release the hold, or wait until it lapses."),
    refusals.COUPON_NOT_COMBINABLE: Row(409, "These coupons do not go together", "Redeem it on another bill."),
    refusals.COUPON_CARD_LIMIT_REACHED: Row(409, "The card has used the coupon up", "Use another coupon."),
    refusals.COUPON_LIMIT_REACHED: Row(409, "The coupon is used up", "See `detail`; a daily limit ends with the day."),
    refusals.HOLD_INVALID: Row(409, "The hold is not valid", "It ends in the future, within 24 hours."),
    refusals.COUPON_NOT_REDEEMED: Row(409, "No redemption is in force", "Release a hold; else nothing is left to do."),
    refusals.ALREADY_ROLLED_BACK: Row(409, "The redemption was rolled back", "Nothing is left to do."),
    refusals.COUPON_TERMS_INVALID: Row(409, "The coupon's terms are not valid", "See `detail`."),
    refusals.CODE_TAKEN: Row(409, "The code is taken", "Choose another text."),
    "member_unknown": Row(404, "Unknown member", "Check the id."),
    "member_erased": Row(409, "The member's data was erased", "Nothing about them can be set any more."),
    "member_has_cards": Row(409, "The member has cards in force", "Revoke the member's cards first."),
    "external_id_taken": Row(409, "The external id is taken", "External ids are unique within an organisation."),
    "query_too_short": Row(400, "Too little to search for", "Type more of it."),
    "link_unknown": Row(404, "No account is linked", "Nothing is left to do."),
    "import_unknown": Row(404, "Unknown import", "Check the id."),
    "import_under_way": Row(409, "Another import is under way", "Wait for it to end, or cancel it."),
    "batch_unknown": Row(404, "Unknown batch of cards", "Check the id; batches are kept for 90 days."),
    "batch_under_way": Row(409, "Another batch of cards is under way", "Wait for it to end, or cancel it."),
    "org_suspended": Row(403, "The organisation is suspended", "Ask whoever runs the platform."),
    "org_closed": Row(403, "The organisation is closed", "Nothing can be done with it any more."),
    "last_admin": Row(409, "The organisation's last admin", "Make somebody else an admin first."),
    "role_unknown": Row(404, "Nobody with a role here", "Check the account's id."),
    "invitation_unknown": Row(404, "Unknown invitation", "Check the id; it may be over."),
    "invitation_invalid": Row(
        404, "The invitation is not valid", "It works once, for a week and for the invited address; ask for another."
    ),
    "api_key_unknown": Row(404, "Unknown API key", "Check the id."),
    "device_unknown": Row(404, "Unknown device", "Check the id."),
    "device_revoked": Row(409, "The device is revoked", "Pair a new device; a revocation is final."),
    "gate_unknown": Row(409, "Unknown gate", "Check the gate id."),
    UNENCODABLE: Row(400, "The request is malformed", "Send valid Unicode and 64-bit integers."),
    refusals.INSUFFICIENT_POINTS: Row(409, "Not enough points", "Redeem less."),
    refusals.CARD_NOT_ACTIVE: Row(409, "The card is not active", "Resume the card first."),
    refusals.CARD_REVOKED: Row(409, "The card is revoked", "Issue a new card; a revocation is final."),
    refusals.EXPIRY_INVALID: Row(409, "The time of its end is not valid", "Name one that lies ahead."),
    refusals.TAG_IN_USE: Row(409, "The tag is another card's", "Take it from that card first."),
    "template_unknown": Row(404, "Unknown template", "GET /v1/rules/templates lists them."),
    refusals.WINDOW_OPEN: Row(
        409,
        "The window is not frozen yet",
        "Come back at the time that the answer tells; an event needs one for its doors.",
    ),
    refusals.ALREADY_PAID_OUT: Row(409, "The window was paid out before", "Nothing: each window is paid out once."),
    refusals.RULE_UNKNOWN: Row(404, "Unknown rule", "Check the id; it may have been deleted."),
    refusals.RULE_INVALID: Row(400, "The rule is not possible here", "See `detail` and `errors`."),
    refusals.TAG_UNKNOWN: Row(409, "The card has no tag", "Give it one first."),
    refusals.AMOUNT_INVALID: Row(
        409, "The amount is not valid", "Amounts are whole numbers above 0 and within the limit."
    ),
    refusals.ENTRY_UNKNOWN: Row(409, "Unknown ledger entry", "Check the entry's seq in the card's ledger."),
    refusals.ENTRY_NOT_REVERSIBLE: Row(409, "The ledger entry cannot be reversed", "A transfer is undone by one back."),
    refusals.ALREADY_REVERSED: Row(409, "The ledger entry is reversed already", "Nothing is left to do."),
    refusals.EXPIRY_INVALID: Row(409, "The expiry is not valid", "Points expire after now; see `detail`."),
    refusals.CAPACITY_INVALID: Row(409, "The capacity is not valid", "See `detail`."),
    refusals.TERMS_INVALID: Row(409, "The event's terms do not fit together", "See `detail`."),
    refusals.SCAN_UNKNOWN: Row(409, "Unknown scan", "Check the scan id; it must be one of this event."),
    refusals.SCAN_NOT_ADMITTED: Row(409, "The scan let nobody in", "Only admissions can be annulled."),
    refusals.SCAN_OF_OTHER_DEVICE: Row(409, "Another device admitted", "Annul on the device that admitted."),
    refusals.SCAN_SUPERSEDED: Row(
        409, "The admission is not the card's latest any more", "It was annulled, or the card was scanned again."
    ),
    refusals.ANNUL_TOO_LATE: Row(409, "It is too late to annul", "Let the person out, or leave it as it is."),
    refusals.QUESTION_UNKNOWN: Row(409, "Unknown question", "Check the ids of the event's questions."),
    refusals.ANSWER_INVALID: Row(409, "The answer is none of the choices", "Take one of the question's choices."),
    refusals.QUOTA_EXCEEDED: Row(409, "The plan is used up", "Upgrade to Premium, or revoke what is not needed."),
}


class Problem(Exception):
    """An answer that is not a yes. Raised by routes, rendered in one place."""

    def __init__(
        self,
        code: str,
        detail: str = "",
        errors: Sequence[FieldError] = (),
        retry_after_ms: int = 0,
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.errors = tuple(errors)
        self.retry_after_ms = retry_after_ms
        self._headers = headers

    @property
    def row(self) -> Row:
        """The table's row for this code."""
        return TABLE[self.code]

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Headers that go with it, besides the content type."""
        headers = list(self._headers)
        if self.row.status in (429, 503):
            wait_ms = self.retry_after_ms or limits.UNAVAILABLE_RETRY_AFTER_MS
            headers.append((b"retry-after", str(-(-wait_ms // 1000)).encode()))
        if self.row.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        return headers

    def document(self, trace_id: str = "") -> dict[str, object]:
        """The members of RFC 9457 and our own; `trace_id` is the answer's `X-Request-Id`."""
        row = self.row
        document: dict[str, object] = {
            "type": "about:blank",
            "title": row.title,
            "status": row.status,
            "code": self.code,
            "detail": self.detail or row.remedy,
            "remedy": row.remedy,
        }
        if self.errors:
            document["errors"] = [msgspec.to_builtins(error) for error in self.errors]
        if self.retry_after_ms:
            document["retry_after_ms"] = self.retry_after_ms
        if trace_id:
            document["request_id"] = trace_id
        return document

    def body(self, trace_id: str) -> bytes:
        """The document as JSON."""
        return msgspec.json.encode(self.document(trace_id))


def problem_of(answer: Failed | CommandRefused) -> Problem:
    """The problem for an engine's failure or refusal. A code without a row is a newer host's: our fault, not the
    caller's. What the engine says of an absent thing is left out: of one beyond the caller's reach it says nothing, and
    the two must look the same."""
    if isinstance(answer, CommandRefused):
        return Problem(answer.reason if answer.reason in TABLE else "internal", answer.detail)
    code = answer.code if answer.code in TABLE else "internal"
    detail = "" if TABLE[code].status == 404 else answer.detail
    return Problem(code, detail, (), answer.retry_after_ms)


def malformed(pointer: str, detail: str) -> Problem:
    """One bad field of the body."""
    return Problem("malformed", detail, [FieldError(detail, pointer=pointer)])


def pointer_of(error: msgspec.DecodeError) -> tuple[str, str]:
    """msgspec's path (`$.items[3].amount`) as a JSON pointer (`#/items/3/amount`), and its message without the path."""
    message, _, path = str(error).partition(" - at `")
    if not path:
        return _missing_field("#", message), message
    steps = path.removesuffix("`").removeprefix("$").replace("[...]", ".*").replace("[", ".").replace("]", "")
    pointer = "#" + steps.replace(".", "/")
    return _missing_field(pointer, message), message


def _missing_field(pointer: str, message: str) -> str:
    """A field that is missing or unknown is named in the message; the pointer should point at it."""
    if "field `" in message:
        return pointer + "/" + message.split("field `", 1)[1].split("`", 1)[0]
    return pointer
