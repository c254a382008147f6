"""The closed lists of answers that are not a plain yes. A refusal is a decision and is journaled; a failure had no
effect."""

from __future__ import annotations

from typing import Final

# Why a scan is refused, in the order in which they are checked (semantics.md, "Verdicts"); the first that fails is
# the reason.
CREDENTIAL_INVALID: Final = "credential_invalid"
CREDENTIAL_EXPIRED: Final = "credential_expired"
CREDENTIAL_REPLAYED: Final = "credential_replayed"
CARD_REVOKED: Final = "card_revoked"
CARD_SUSPENDED: Final = "card_suspended"
CARD_EXPIRED: Final = "card_expired"
EVENT_NOT_OPEN: Final = "event_not_open"
EVENT_CLOSED: Final = "event_closed"
EVENT_CANCELLED: Final = "event_cancelled"
GATE_UNKNOWN: Final = "gate_unknown"
GATE_CLOSED: Final = "gate_closed"
NOT_ELIGIBLE: Final = "not_eligible"
ALREADY_ADMITTED: Final = "already_admitted"
NOT_INSIDE: Final = "not_inside"
FULL: Final = "full"

SCAN_REASONS: Final = (
    CREDENTIAL_INVALID,
    CREDENTIAL_EXPIRED,
    CREDENTIAL_REPLAYED,
    CARD_REVOKED,
    CARD_SUSPENDED,
    CARD_EXPIRED,
    EVENT_NOT_OPEN,
    EVENT_CLOSED,
    EVENT_CANCELLED,
    GATE_UNKNOWN,
    GATE_CLOSED,
    NOT_ELIGIBLE,
    ALREADY_ADMITTED,
    NOT_INSIDE,
    FULL,
)

# Why any other command is refused.
INSUFFICIENT_POINTS: Final = "insufficient_points"
CARD_NOT_ACTIVE: Final = "card_not_active"
AMOUNT_INVALID: Final = "amount_invalid"
LIMIT_REACHED: Final = "limit_reached"
ENTRY_UNKNOWN: Final = "entry_unknown"
ENTRY_NOT_REVERSIBLE: Final = "entry_not_reversible"
ALREADY_REVERSED: Final = "already_reversed"
CAPACITY_INVALID: Final = "capacity_invalid"
EXPIRY_INVALID: Final = "expiry_invalid"
QUOTA_EXCEEDED: Final = "quota_exceeded"
PRECONDITION_FAILED: Final = "precondition_failed"
TERMS_INVALID: Final = "terms_invalid"
SCAN_UNKNOWN: Final = "scan_unknown"
SCAN_NOT_ADMITTED: Final = "scan_not_admitted"
SCAN_OF_OTHER_DEVICE: Final = "scan_of_other_device"
SCAN_SUPERSEDED: Final = "scan_superseded"
ANNUL_TOO_LATE: Final = "annul_too_late"
QUESTION_UNKNOWN: Final = "question_unknown"
ANSWER_INVALID: Final = "answer_invalid"
INSUFFICIENT_FUNDS: Final = "insufficient_funds"
PENDING_INVALID: Final = "pending_invalid"
ENTRY_NOT_PENDING: Final = "entry_not_pending"
HOLD_UNKNOWN: Final = "hold_unknown"
HOLD_CAPTURED: Final = "hold_captured"
HOLD_RELEASED: Final = "hold_released"
HOLD_LAPSED: Final = "hold_lapsed"
TRANSFER_TO_ITSELF: Final = "transfer_to_itself"
TAG_IN_USE: Final = "tag_in_use"
TAG_UNKNOWN: Final = "tag_unknown"
# Of a coupon's redemption in the order in which they are checked (`actors.coupon_redemptions`); CARD_NOT_ACTIVE and
# LIMIT_REACHED come last.
COUPON_NOT_ACTIVE: Final = "coupon_not_active"
COUPON_ENDED: Final = "coupon_ended"
COUPON_NOT_STARTED: Final = "coupon_not_started"
COUPON_EXPIRED: Final = "coupon_expired"
COUPON_NOT_FOR_CARD: Final = "coupon_not_for_card"
COUPON_ALREADY_USED: Final = "coupon_already_used"
COUPON_ON_HOLD: Final = "coupon_on_hold"
COUPON_WITHDRAWN: Final = "coupon_withdrawn"
COUPON_NOT_COMBINABLE: Final = "coupon_not_combinable"
COUPON_CARD_LIMIT_REACHED: Final = "coupon_card_limit_reached"
COUPON_LIMIT_REACHED: Final = "coupon_limit_reached"
# Of what becomes of a redemption, and of coupons themselves.
HOLD_INVALID: Final = "hold_invalid"
COUPON_NOT_REDEEMED: Final = "coupon_not_redeemed"
ALREADY_ROLLED_BACK: Final = "already_rolled_back"
COUPON_TERMS_INVALID: Final = "coupon_terms_invalid"
CODE_TAKEN: Final = "code_taken"
WINDOW_OPEN: Final = "window_open"
ALREADY_PAID_OUT: Final = "already_paid_out"
RULE_UNKNOWN: Final = "rule_unknown"
RULE_INVALID: Final = "rule_invalid"

COMMAND_REASONS: Final = (
    INSUFFICIENT_POINTS,
    CARD_NOT_ACTIVE,
    CARD_REVOKED,
    AMOUNT_INVALID,
    LIMIT_REACHED,
    ENTRY_UNKNOWN,
    ENTRY_NOT_REVERSIBLE,
    ALREADY_REVERSED,
    CAPACITY_INVALID,
    EXPIRY_INVALID,
    QUOTA_EXCEEDED,
    PRECONDITION_FAILED,
    TERMS_INVALID,
    SCAN_UNKNOWN,
    SCAN_NOT_ADMITTED,
    SCAN_OF_OTHER_DEVICE,
    SCAN_SUPERSEDED,
    ANNUL_TOO_LATE,
    QUESTION_UNKNOWN,
    ANSWER_INVALID,
    INSUFFICIENT_FUNDS,
    PENDING_INVALID,
    ENTRY_NOT_PENDING,
    HOLD_UNKNOWN,
    HOLD_CAPTURED,
    HOLD_RELEASED,
    HOLD_LAPSED,
    TRANSFER_TO_ITSELF,
    TAG_IN_USE,
    TAG_UNKNOWN,
    COUPON_NOT_ACTIVE,
    COUPON_ENDED,
    COUPON_NOT_STARTED,
    COUPON_EXPIRED,
    COUPON_NOT_FOR_CARD,
    COUPON_ALREADY_USED,
    COUPON_ON_HOLD,
    COUPON_WITHDRAWN,
    COUPON_NOT_COMBINABLE,
    COUPON_CARD_LIMIT_REACHED,
    COUPON_LIMIT_REACHED,
    HOLD_INVALID,
    COUPON_NOT_REDEEMED,
    ALREADY_ROLLED_BACK,
    COUPON_TERMS_INVALID,
    CODE_TAKEN,
    WINDOW_OPEN,
    ALREADY_PAID_OUT,
    RULE_UNKNOWN,
    RULE_INVALID,
)

# Why a message has no outcome (`Failed.code`). The first group is final: it had no effect and never will …
ID_REUSED: Final = "id_reused"
TENANT_UNKNOWN: Final = "tenant_unknown"
CARD_UNKNOWN: Final = "card_unknown"
EVENT_UNKNOWN: Final = "event_unknown"
BOARD_UNKNOWN: Final = "board_unknown"
COUPON_UNKNOWN: Final = "coupon_unknown"
REDEMPTION_UNKNOWN: Final = "redemption_unknown"
PAYOUT_UNKNOWN: Final = "payout_unknown"
# … the second leaves open whether it had one: the same message under the same id, later or elsewhere, tells.
OVERLOADED: Final = "overloaded"
UNAVAILABLE: Final = "unavailable"
MOVED: Final = "moved"
HALTED: Final = "partition_halted"

FAILURES_NOT_FOUND: Final = frozenset(
    {TENANT_UNKNOWN, CARD_UNKNOWN, EVENT_UNKNOWN, BOARD_UNKNOWN, COUPON_UNKNOWN, REDEMPTION_UNKNOWN, PAYOUT_UNKNOWN}
)
FAILURES_TO_RETRY: Final = frozenset({OVERLOADED, UNAVAILABLE, MOVED, HALTED})
