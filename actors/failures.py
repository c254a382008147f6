"""What a partition answers when a message gets no outcome now. All say when to come again, under the same id."""

from __future__ import annotations

from actors.refusals import HALTED, MOVED, OVERLOADED, UNAVAILABLE
from actors.replies import Failed

RETRY_SOON_MS = 50
RETRY_LATER_MS = 1_000

MAILBOX_FULL = Failed(OVERLOADED, "too many messages are waiting", RETRY_SOON_MS)
JOURNAL_FULL = Failed(UNAVAILABLE, "the journal is full of entries that Postgres has not taken yet", RETRY_LATER_MS)
STORE_LATE = Failed(UNAVAILABLE, "a store did not answer in time", RETRY_LATER_MS)
MOVED_AWAY = Failed(MOVED, "another host has this partition", RETRY_SOON_MS)
STOPPED = Failed(HALTED, "this organisation's partition has stopped and waits for an operator", RETRY_LATER_MS)
