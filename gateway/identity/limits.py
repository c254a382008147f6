"""Limits of accounts and their tokens, each with its unit in its name. Their relationships are asserted here, once, at
import."""

from __future__ import annotations

from typing import Final

_MINUTE_MS: Final = 60_000
_DAY_MS: Final = 24 * 60 * _MINUTE_MS

# --- passwords --------------------------------------------------------------------------------------------------------
PASSWORD_CHARS_MIN: Final = 10
PASSWORD_CHARS_MAX: Final = 128
PASSWORD_TAKEN_CHARS_MAX: Final = 1_024  # what a sign-in may send, whatever it is compared with
HASHES_AT_ONCE: Final = 2  # each takes 64 MiB
HASHING_NICENESS: Final = 10
HASHES_WAITING_MAX: Final = 32
HASHES_RETRY_AFTER_MS: Final = 1_000

# --- sign-ins that fail -----------------------------------------------------------------------------------------------
LOGIN_FREE_FAILURES: Final = 5  # in a row, before the first pause
LOGIN_PAUSE_MIN_MS: Final = 1_000  # doubled with each failure more …
LOGIN_PAUSE_MAX_MS: Final = 15 * _MINUTE_MS  # … up to this
LOGIN_FORGOTTEN_AFTER_MS: Final = _DAY_MS  # failures are, once the last is so long ago
LOGIN_CLEANING_INTERVAL_MS: Final = 60 * _MINUTE_MS
KNOWN_ORIGIN_MS: Final = 90 * _DAY_MS  # for how long an address from which an account signed in is known for it

# --- access tokens ----------------------------------------------------------------------------------------------------
ACCESS_TOKEN_LIFE_MS: Final = 15 * _MINUTE_MS
ACCESS_TOKEN_CHARS_MAX: Final = 2_048
TOKEN_CLOCK_LEEWAY_MS: Final = 5_000  # how far the clocks of two gateways may differ
KEY_ID_CHARS_MAX: Final = 64
KEY_LIFETIME_MS: Final = 90 * _DAY_MS
KEY_REFRESH_INTERVAL_MS: Final = 10_000
KEY_REFETCH_INTERVAL_MS: Final = 5_000
JWKS_CACHE_MS: Final = 5 * _MINUTE_MS
KEY_PUBLISHED_BEFORE_MS: Final = 15 * _MINUTE_MS

# --- sessions ---------------------------------------------------------------------------------------------------------
REFRESH_TOKEN_LIFE_MS: Final = 30 * _DAY_MS
REFRESH_TOKEN_CHARS_MAX: Final = 256
REFRESH_REPLAY_MS: Final = 10_000  # how long a token that was just used gets the same answer again
LOGIN_REPLAY_MS: Final = 60_000  # the same for a sign-in with the same Idempotency-Key
SESSIONS_PER_ACCOUNT_MAX: Final = 20
SESSIONS_REMEMBERED_MAX: Final = 50  # that are over
USER_AGENT_CHARS_MAX: Final = 200

# --- tokens sent by mail ----------------------------------------------------------------------------------------------
VERIFY_TOKEN_LIFE_MS: Final = 3 * _DAY_MS
RESET_TOKEN_LIFE_MS: Final = 60 * _MINUTE_MS
MAIL_TOKEN_CHARS_MAX: Final = 256
MAILS_PER_ACCOUNT_MAX: Final = 5  # of one kind, within …
MAILS_PERIOD_MS: Final = 60 * _MINUTE_MS
MAILS_UNDER_WAY_MAX: Final = 1_000  # per gateway

# --- answers ----------------------------------------------------------------------------------------------------------
CARDS_PER_PART_MAX: Final = 100  # of `GET /v1/me`

assert LOGIN_PAUSE_MIN_MS < LOGIN_PAUSE_MAX_MS < LOGIN_FORGOTTEN_AFTER_MS
assert KEY_REFETCH_INTERVAL_MS <= KEY_REFRESH_INTERVAL_MS
assert KEY_PUBLISHED_BEFORE_MS > JWKS_CACHE_MS + KEY_REFRESH_INTERVAL_MS + TOKEN_CLOCK_LEEWAY_MS
assert KEY_LIFETIME_MS > KEY_PUBLISHED_BEFORE_MS
assert REFRESH_REPLAY_MS < ACCESS_TOKEN_LIFE_MS < REFRESH_TOKEN_LIFE_MS
assert RESET_TOKEN_LIFE_MS <= MAILS_PERIOD_MS, "the mails of a period bound the reset tokens in force"
