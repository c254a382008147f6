"""Every close code and every error code of the sockets, each once.

Rules:
1. 4000-4499 say "do not reconnect": the same connection would fail again. 4500-4999 say "reconnect with back-off".
2. Before a close for a reason of ours, an error frame with the same name as its `code` is sent where the peer still
   reads.
3. An error frame without a close leaves the socket open; the frame or item it names had no effect.
"""

from __future__ import annotations

from typing import Final, NamedTuple

RECONNECT_FROM: Final = 4500


class Close(NamedTuple):
    """Why the server ends a socket: the close code, and the name that the error frame and the close reason carry."""

    code: int
    name: str
    message: str

    @property
    def may_reconnect(self) -> bool:
        """Whether the client should connect again, after a pause."""
        return self.code >= RECONNECT_FROM


PROTOCOL_ERROR: Final = Close(4400, "protocol_error", "This client does not speak the protocol.")
TOKEN_INVALID: Final = Close(4401, "token_invalid", "The token is missing, wrong, expired or revoked.")
FORBIDDEN: Final = Close(4403, "forbidden", "This token may not use this socket.")
EVENT_UNKNOWN: Final = Close(4404, "event_unknown", "There is no such event.")
SUBPROTOCOL_UNKNOWN: Final = Close(4406, "subprotocol_unknown", "Offer mastervip.v1.json or mastervip.v1.msgpack.")
ORG_CLOSED: Final = Close(4410, "org_closed", "The organisation is closed.")
FRAME_TOO_BIG: Final = Close(4413, "frame_too_big", "The frame is larger than max_frame_bytes.")
ORG_SUSPENDED: Final = Close(4423, "org_suspended", "The organisation is suspended.")
UNAVAILABLE: Final = Close(4500, "unavailable", "The engine does not answer at the moment.")
ACCESS_CHANGED: Final = Close(4501, "access_changed", "What this token may do has changed.")
DRAINING: Final = Close(4503, "draining", "This gateway is going away; another one takes over.")
HELLO_TIMEOUT: Final = Close(4504, "hello_timeout", "No hello came in time.")
SLOW_READER: Final = Close(4508, "slow_reader", "Frames were not read fast enough.")
RATE_LIMITED: Final = Close(4509, "rate_limited", "Too many attempts failed from this address.")
TOO_MANY_SOCKETS: Final = Close(4510, "too_many_sockets", "This gateway is full.")

CLOSES: Final = (
    PROTOCOL_ERROR,
    TOKEN_INVALID,
    FORBIDDEN,
    EVENT_UNKNOWN,
    SUBPROTOCOL_UNKNOWN,
    ORG_CLOSED,
    FRAME_TOO_BIG,
    ORG_SUSPENDED,
    UNAVAILABLE,
    ACCESS_CHANGED,
    DRAINING,
    HELLO_TIMEOUT,
    SLOW_READER,
    RATE_LIMITED,
    TOO_MANY_SOCKETS,
)

# Codes of error frames that leave the socket open, besides those of `actors.refusals` that the engine answers with.
FRAME_INVALID: Final = "frame_invalid"
TOO_MANY_IN_FLIGHT: Final = "too_many_in_flight"
TOPIC_UNKNOWN: Final = "topic_unknown"
TOO_MANY_SUBSCRIPTIONS: Final = "too_many_subscriptions"

# What the client does, for the documentation.
REMEDIES: Final[dict[str, str]] = {
    PROTOCOL_ERROR.name: "Correct the client; the frame before the close says what was wrong.",
    TOKEN_INVALID.name: "Get a new token, or pair the device again; do not reconnect with this one.",
    FORBIDDEN.name: "Ask for the right to do it; do not reconnect with this token.",
    EVENT_UNKNOWN.name: "Check the event's id in the hello.",
    SUBPROTOCOL_UNKNOWN.name: "Offer one of the two subprotocols.",
    ORG_CLOSED.name: "Do not reconnect; nothing can be done with it any more.",
    FRAME_TOO_BIG.name: "Send less in a frame; the welcome says how much one may have.",
    ORG_SUSPENDED.name: "Do not reconnect until whoever runs the platform has resumed it.",
    UNAVAILABLE.name: "Reconnect with back-off, and send again what was not answered, under the same ids.",
    ACCESS_CHANGED.name: "Reconnect; what is allowed now is found out anew.",
    DRAINING.name: "Reconnect with back-off, and send again what was not answered, under the same ids.",
    HELLO_TIMEOUT.name: "Send the hello first and at once.",
    SLOW_READER.name: "Read faster, or subscribe to less; reconnect with back-off.",
    RATE_LIMITED.name: "Wait, then reconnect with back-off.",
    TOO_MANY_SOCKETS.name: "Reconnect with back-off; another gateway may have room.",
    FRAME_INVALID: "Correct the field that the message names; nothing else was touched.",
    TOO_MANY_IN_FLIGHT: "Send it again under its id once other verdicts have come.",
    TOPIC_UNKNOWN: "Check the topic and the id in it.",
    TOO_MANY_SUBSCRIPTIONS: "Unsubscribe from something first.",
}
