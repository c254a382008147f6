"""Why a scan is refused, for people: what each reason means and what the client (the scanner, and whoever stands beside
it) does about it. The table of all other codes is `gateway.problems.TABLE`.

A refusal is final for its scan id: the same id gets it again, whatever has changed. Whoever tries again scans again.
"""

from __future__ import annotations

import msgspec

from actors import refusals


class Meaning(msgspec.Struct, frozen=True):
    """What a reason means, and what the client does."""

    title: str
    remedy: str


SCAN_REASONS: dict[str, Meaning] = {
    refusals.CREDENTIAL_INVALID: Meaning(
        "The code is none of this organisation's cards, or its signature is wrong",
        "Scan again once; if it stays, ask for another proof. The member can fetch the code anew.",
    ),
    refusals.CREDENTIAL_EXPIRED: Meaning(
        "The code is not valid now: not yet, or no longer",
        "Have the member open the card again, which shows a new code; check the scanner's clock where it judges alone.",
    ),
    refusals.CREDENTIAL_REPLAYED: Meaning(
        "The tag's tap was used before", "Have the card tapped again; a link that was copied from a tap is no card."
    ),
    refusals.CARD_REVOKED: Meaning(
        "The card is revoked, for good", "Do not let it in. A new card has to be issued; ask the organiser."
    ),
    refusals.CARD_SUSPENDED: Meaning(
        "The card is suspended", "Do not let it in. The organiser can resume the card; then scan again."
    ),
    refusals.CARD_EXPIRED: Meaning(
        "The card is not valid now: not yet, or no longer", "Check the card's dates; a new one has to be issued."
    ),
    refusals.EVENT_NOT_OPEN: Meaning(
        "The doors are not open yet", "Wait for `doors_open` of the event, then scan again."
    ),
    refusals.EVENT_CLOSED: Meaning(
        "The event is closed, or its doors are", "Check that the scanner is set to today's event."
    ),
    refusals.EVENT_CANCELLED: Meaning("The event is cancelled", "Nobody is let in; tell the guests."),
    refusals.GATE_UNKNOWN: Meaning(
        "The gate is none of this event's", "Choose the scanner's gate anew, from the event's list."
    ),
    refusals.GATE_CLOSED: Meaning("The gate is closed", "Send the guest to an open gate, or have this one opened."),
    refusals.NOT_ELIGIBLE: Meaning(
        "The event does not let this card in", "Show the guest `message`; a supervisor can force the admission."
    ),
    refusals.ALREADY_ADMITTED: Meaning(
        "The card is inside already, or has been where re-entry is not allowed",
        "Look at `first`, which tells when and where. A guest who leaves has to be scanned out before coming back.",
    ),
    refusals.NOT_INSIDE: Meaning(
        "An exit of a card that is not inside", "Let the guest out; the entrance was not scanned. Nothing is counted."
    ),
    refusals.FULL: Meaning("The event is full", "Wait until somebody has left, then scan again."),
}
