"""Limits of the sockets, each with its unit in its name. Their relationships are asserted here, once, at import."""

from __future__ import annotations

from typing import Final

from gateway.limits import CREDENTIAL_CHARS_MAX, ID_CHARS_MAX, IDENTITY_FRESH_MS, REQUEST_ID_CHARS_MAX

HELLO_TIMEOUT_MS: Final = 5_000
FRAME_BYTES_MAX: Final = 262_144
# uvicorn's own limit: above ours, so that a frame that is merely too big gets our error; far above it the server hangs
# up (1009).
SERVER_FRAME_BYTES_MAX: Final = 4 * FRAME_BYTES_MAX
SCANS_PER_FRAME_MAX: Final = 256
SCANS_IN_FLIGHT_MAX: Final = 1_024
BAD_FRAMES_MAX: Final = 100
# Frames taken from one socket before the others get their turn.
FRAMES_IN_A_ROW_MAX: Final = 64
RETRY_AFTER_MS: Final = 100

# Frames that wait for a reader. A verdict is some 400 bytes, so the bytes bound the frames; the count guards against
# tiny ones.
BACKLOG_BYTES_MAX: Final = 1_048_576
BACKLOG_FRAMES_MAX: Final = 4_096
# A `scans` frame is answered with one `verdicts` frame if all its verdicts come within this time of the first one.
VERDICTS_HOLD_MS: Final = 50
ATTENDANCE_INTERVAL_MS: Final = 100
# Cards in one `revoked` frame.
CARDS_PER_FRAME_MAX: Final = 500
CURSOR_CHARS_MAX: Final = 64

WATCH_EVERY_MS: Final = 1_000
# Sockets looked at before everything else gets its turn.
SWEPT_IN_A_ROW_MAX: Final = 500
# The sockets' own pings only keep the clock; dead peers are found by the server (`serve.socket_protocol`).
PING_EVERY_MS: Final = 60_000
# How long a token that is no longer good may keep a socket open where the news of it was lost.
TOKEN_CHECK_EVERY_MS: Final = 45_000
DOUBT_RETRY_MS: Final = 5_000
CHECKS_AT_ONCE_MAX: Final = 64
WRITE_STALL_MS: Final = 20_000
CLOSE_GRACE_MS: Final = 2_000
# A socket that waits costs some 15 kB (ARCHITECTURE.md, Figures) and a file descriptor.
SOCKETS_MAX: Final = 25_000
# When a gateway drains, its sockets come to the others spread over this time.
RECONNECT_MS_PER_SOCKET: Final = 1
RECONNECT_WINDOW_MS_MAX: Final = 5_000
# Who comes to a gateway that drains is told to come back after a time within these.
RECONNECT_MS_MIN: Final = 50
RECONNECT_REFUSED_MS_MAX: Final = 1_000

SUBSCRIPTIONS_PER_SOCKET_MAX: Final = 32
TOPIC_CHARS_MAX: Final = 160
# Updates a subscriber may be behind before they are thrown away for a snapshot.
SUBSCRIBER_BACKLOG_MAX: Final = 64
# Updates a topic keeps for those who join or resume.
TOPIC_RECENT_MAX: Final = 256
# Updates kept while a topic waits for the engine to fill a gap; beyond it they are dropped and asked for again.
TOPIC_HELD_MAX: Final = 256
JOIN_DEADLINE_MS: Final = 10_000
SOURCE_WAIT_MS: Final = 2_000
ASK_RETRY_MS_MIN: Final = 50
ASK_RETRY_MS_MAX: Final = 2_000

assert SCANS_PER_FRAME_MAX <= SCANS_IN_FLIGHT_MAX, "one full frame must be acceptable"
assert SCANS_IN_FLIGHT_MAX <= BACKLOG_FRAMES_MAX, "the verdicts in flight must fit the backlog"
assert SCANS_PER_FRAME_MAX * (CREDENTIAL_CHARS_MAX + ID_CHARS_MAX + REQUEST_ID_CHARS_MAX + 100) < FRAME_BYTES_MAX
assert FRAME_BYTES_MAX < SERVER_FRAME_BYTES_MAX
assert CARDS_PER_FRAME_MAX * (ID_CHARS_MAX + 3) < FRAME_BYTES_MAX, "nobody is sent more than may be sent to us"
assert TOKEN_CHECK_EVERY_MS + IDENTITY_FRESH_MS <= 60_000, "a token that is no longer good ends its socket in a minute"
assert SUBSCRIBER_BACKLOG_MAX <= TOPIC_RECENT_MAX
