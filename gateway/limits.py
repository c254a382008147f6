"""Every limit of the edge, by name and unit. Their relationships are asserted in `check_relationships`, at start.

A limit reached is a clear answer (413, 429, 503 with Retry-After), never a silent drop.
"""

from __future__ import annotations

from actors.terms import CARD_SERIAL_MAX
from gateway.rates import Rate

# --- dispatcher -------------------------------------------------------------------------------------------------------
DEADLINE_MS = 5_000  # from arrival at the dispatcher to an answer, whatever happens in between
# A second batch under way makes both smaller, and with them the journal's entries, each of which costs the same to
# write and to project whatever it holds.
IN_FLIGHT_BATCHES_PER_HOST_MAX = 1
BATCH_MESSAGES_MAX = 300  # a host decides so many in 3 to 4 ms, during which it does nothing else
# 300 check-ins take 67 kB. From 128 kB on memory is mapped anew for each copy of a frame, which then costs several
# times as much.
BATCH_BYTES_MAX = 90_000
QUEUE_MESSAGES_MAX = 20_000  # per host
COLLECTS_PER_HOST_MAX = 32  # deferred batches being waited for; above, the host gets no new batch
RETRY_DELAY_MIN_MS = 10
RETRY_DELAY_MAX_MS = 400
SWEEP_INTERVAL_MS = 100  # how late past its deadline a message may be answered
PLACEMENT_REFRESH_INTERVAL_MIN_MS = 50
ROUTE_CACHE_ENTRIES_MAX = 200_000
OVERLOADED_RETRY_AFTER_MS = 500
UNAVAILABLE_RETRY_AFTER_MS = 1_000

# --- identity ---------------------------------------------------------------------------------------------------------
IDENTITY_FRESH_MS = 10_000  # how long a revoked key may still work
IDENTITY_STALE_MS = 15 * 60_000  # how long a caller seen before stays valid while Postgres is away
IDENTITY_CACHE_ENTRIES_MAX = 50_000
IDENTITY_NEGATIVE_MS = 2_000
IDENTITY_NEGATIVE_ENTRIES_MAX = 10_000
IDENTITY_LOOKUPS_MAX = 8  # concurrent look-ups, so that a flood of made-up tokens cannot take the whole pool
IDENTITY_LOOKUP_TIMEOUT_MS = 2_000
IDENTITY_PATIENCE_MS = 250  # how long a caller seen before waits for being confirmed again
TOKEN_CHARS_MAX = 256

# --- credentials ------------------------------------------------------------------------------------------------------
CREDENTIAL_CHARS_MAX = 512
CREDENTIAL_CACHE_ENTRIES_MAX = 262_144
SIGNING_KEY_CACHE_ENTRIES_MAX = 4_096
CARD_NUMBER_CHARS_MAX = 40  # sixteen digits, and whatever people put between them
CREDENTIAL_SERIAL_MAX = CARD_SERIAL_MAX
ROTATING_STEP_MS = 15_000
ROTATING_STEPS_BACK_MAX = 40  # ten minutes: an older code counts as made up, not as expired
ROTATING_STEPS_AHEAD_MAX = 4  # of scanners whose clock is behind
ROTATING_CODES_AHEAD_MAX = 240  # an hour's, for phones that lose their network
ROTATING_SECRET_CACHE_ENTRIES_MAX = 65_536
TAG_FILE_BYTES_MAX = 64  # encrypted file data that a tag mirrors
TAG_KEY_CACHE_ENTRIES_MAX = 4_096
FORGED_LOG_INTERVAL_MS = 1_000  # one log line per device and interval, with the count of what it stands for
FORGED_LOG_DEVICES_MAX = 10_000

# --- requests ---------------------------------------------------------------------------------------------------------
ADDRESS_BYTES_MAX = 4 * 1024  # path and query
HEAD_BYTES_MAX = 16 * 1024  # request line and headers
HEADERS_MAX = 100
BODY_BYTES_MAX = 64 * 1024
BATCH_BODY_BYTES_MAX = 1024 * 1024
BATCH_ITEMS_MAX = 1_000
REQUEST_ID_CHARS_MAX = 64
ENTITY_TAGS_MAX = 20  # in one If-Match or If-None-Match
ID_CHARS_MAX = 64
NAME_CHARS_MAX = 120
NOTE_CHARS_MAX = 500
CHOICES_PER_QUESTION_MAX = 50
ANSWER_CHARS_MAX = 500
ATTENTION_CHARS_MAX = 200
GATES_AT_CREATION_MAX = 50
PAGE_ITEMS_MAX = 500
PAGE_ITEMS_DEFAULT = 50
TIER_CHANGES_SHOWN_MAX = 50
BOARD_ROWS_MAX = 200
CSV_ROWS_MAX = 1_000_000
CSV_PAGE_ROWS = 1_000
SCANS_LOOKED_AT_MAX = 20_000  # for one page of a scan log, whatever its filters leave of them (10 to 30 ms)
EXPORT_PAGE_ROWS = 1_000
EXPORT_CHUNK_ROWS = 100  # how many rows are written without a turn for others, about a millisecond
EXPORTS_MAX = 2  # at a gateway, so that two of its four connections to Postgres stay free
EXPORTS_PER_TENANT_MAX = 1  # of those
EXPORT_RETRY_AFTER_MS = 10_000
EXPORT_MAX_MS = 3_600_000
STATISTICS_BUCKETS_MAX = 1_560  # a day by the minute, also one that clocks made 26 hours long
STATISTICS_READS_MAX = 1  # at a gateway; others wait, within …
STATISTICS_TIMEOUT_MS = 8_000
SIMULATION_FACTS_MAX = 20_000  # of the organisation's, in one simulation of a rule: about a second
SIMULATION_BYTES_MAX = 64_000_000  # of the archive, whoever's facts they are
SIMULATION_MAX_MS = 8_000
SIMULATION_DAYS_DEFAULT = 7
SIMULATION_MOMENTS_MAX = 200  # that a request may make up
SIMULATION_CHUNK_MOMENTS = 20  # without a turn for others: a millisecond, at the most that rules may cost 20
SIMULATIONS_MAX = 1  # at a gateway
SIMULATIONS_PER_TENANT_MAX = 1
SIMULATION_RETRY_AFTER_MS = 5_000
READ_YOUR_WRITES_WAIT_MAX_MS = 2_000
READ_YOUR_WRITES_POLL_MS = 25
STATEMENT_ENTRIES_MAX = 100_000  # of one statement's period
SAFE_INTEGER_MAX = 2**53 - 1  # beyond it JSON readers lose digits

# --- jobs (imports, batches of cards) ---------------------------------------------------------------------------------
JOB_CANDIDATES = 8  # that a gateway tries to lease when it looks
JOB_LEASE_MS = 30_000
JOB_POLL_MS = 5_000  # how soon another gateway takes up what a dead one left, after its lease
JOB_RETRY_MS = 1_000  # after a store or the engine was away
CARD_BATCH_ROWS_MAX = 100_000
CARD_BATCH_IDS_MAX = 1_000  # that a request may list
CARD_BATCH_ATTRIBUTES_MAX = 10  # that members are chosen by
CARD_BATCH_CHUNK_ROWS = 200  # that the engine is asked for at a time
CARD_BATCHES_KEPT_MS = 90 * 86_400_000

# --- devices ----------------------------------------------------------------------------------------------------------
PAIRING_CODE_CHARS = 10  # 50 bits, usable for PAIRING_CODE_VALID_MS and for one pairing
PAIRING_CODE_VALID_MS = 15 * 60_000
PAIRING_CODE_KEPT_MS = 24 * 3_600_000  # how long a code that ended stays in the table
DEVICES_PER_TENANT_MAX = 10_000  # in force
LAST_SEEN_EVERY_MS = 60_000  # how exactly it is known when a device was last seen
LAST_SEEN_WRITE_MS = 15_000
DEVICES_SEEN_MAX = 100_000  # on their way to the table
PAIRING_REPLAY_MS = 10 * 60_000  # how long the same Idempotency-Key gets the same token again

# --- revocations ------------------------------------------------------------------------------------------------------
REVOCATION_READS_MAX = 2  # lists read at once, so that scanners that come back together leave the pool to others
REVOCATIONS_PER_PAGE_MAX = 1_000

# --- rates (gateway.limiter) ------------------------------------------------------------------------------------------
# By the name of the limit; MASTERVIP_RATES sets others. NAME-PLAN goes before NAME for organisations on that plan.
RATES: dict[str, Rate] = {
    name: Rate.parse(rate)
    for name, rate in {
        # Check-ins: of one device, API key or person, and of a whole organisation.
        "checkins-device": "20000/s",
        "checkins-key": "20000/s",
        "checkins-account": "200/s burst 1000",
        "checkins-org": "50000/s",
        "checkins-org-free": "1000/s burst 5000",
        # Ordinary routes: of one caller, and without a caller of one address.
        "rest-key": "100/s burst 200",
        "rest-account": "100/s burst 200",
        "rest-device": "100/s burst 200",
        "rest-ip": "100/s burst 200",
        # Cards and members that an organisation adds, one by one or in batches.
        "additions-org": "2000/s burst 20000",
        # Attempts by one address that failed: with a token, with a pairing code.
        "auth-failed-ip": "30/min",
        "pairing-failed-ip": "30/min",
        # Signing in, whatever comes of it.
        "login-ip": "30/min",
        "login-account": "10/min",
    }.items()
}
LEASE_CHUNK_MS = 250  # how much of its rate a gateway leases at a time …
LEASE_CHUNK_MIN = 256  # … and at least this, so that a whole `scans` frame passes
LEASE_REFILL_MS = 25
LEASE_RETRY_MS = 100  # what whoever is refused is told to wait, at least
LEASES_MAX = 100_000
LEASES_PER_REFILL_MAX = 1_000
RATE_STORE_TIMEOUT_MS = 250
RATE_STORE_CONNECTIONS_MAX = 16
RATE_STORE_RETRY_MS = 1_000  # how long a gateway counts for itself before it asks Redis again
RATE_KEYS_MAX = 100_000


def check_relationships() -> None:
    """Asserts what the limits assume of each other."""
    assert RETRY_DELAY_MIN_MS < RETRY_DELAY_MAX_MS < DEADLINE_MS
    assert SWEEP_INTERVAL_MS < DEADLINE_MS
    assert BATCH_MESSAGES_MAX <= QUEUE_MESSAGES_MAX
    assert IDENTITY_FRESH_MS < IDENTITY_STALE_MS
    assert BODY_BYTES_MAX < BATCH_BODY_BYTES_MAX
    assert ADDRESS_BYTES_MAX < HEAD_BYTES_MAX
    assert GATES_AT_CREATION_MAX * (NAME_CHARS_MAX * 4 + ID_CHARS_MAX) < BATCH_BYTES_MAX // 2, "an event fits a batch"
    assert CREDENTIAL_CHARS_MAX * BATCH_ITEMS_MAX < BATCH_BODY_BYTES_MAX
    assert PAGE_ITEMS_DEFAULT <= PAGE_ITEMS_MAX <= EXPORT_PAGE_ROWS < SCANS_LOOKED_AT_MAX
    assert EXPORTS_PER_TENANT_MAX <= EXPORTS_MAX
    assert SIMULATIONS_PER_TENANT_MAX <= SIMULATIONS_MAX
    assert JOB_POLL_MS < JOB_LEASE_MS
    assert CARD_BATCH_CHUNK_ROWS < QUEUE_MESSAGES_MAX, "a chunk leaves room for scans"
    assert LEASE_REFILL_MS * 4 <= LEASE_CHUNK_MS, "half a chunk lasts until the refill after the next"
    assert all(rate.burst >= BATCH_ITEMS_MAX for name, rate in RATES.items() if name.startswith("checkins"))
