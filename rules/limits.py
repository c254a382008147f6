"""Every limit of the rule language, with its unit in its name. A rule beyond one is refused when it is saved."""

from __future__ import annotations

from typing import Final

# --- documents --------------------------------------------------------------------------------------------------------
RULES_PER_TENANT_MAX: Final = 200
NAME_CHARS_MAX: Final = 120
ID_CHARS_MAX: Final = 64  # of rules, coupons, tiers, templates, webhooks, groups
ACTIONS_PER_RULE_MAX: Final = 8
NOTIFY_TEXT_CHARS_MAX: Final = 500
PRIORITY_MAX: Final = 1_000  # and its negative is the least
POINTS_PER_AWARD_MAX: Final = 1_000_000_000
POINTS_BUDGET_MAX: Final = 1_000_000_000_000
TIMES_PER_CARD_MAX: Final = 1_000_000
DAYS_MAX: Final = 3_650  # until an award expires, or is no longer pending
FACTOR_THOUSANDTHS_MIN: Final = 1_001
FACTOR_THOUSANDTHS_MAX: Final = 100_000
DOCUMENT_ERRORS_MAX: Final = 20  # told at once

# --- expressions ------------------------------------------------------------------------------------------------------
EXPRESSION_CHARS_MAX: Final = 2_000
EXPRESSION_NODES_MAX: Final = 400
EXPRESSION_DEPTH_MAX: Final = 24  # of nodes within nodes; terms of one chain of && or || stand beside each other
# One unit is a node visited: 0.05 to 0.3 µs where it was measured, up to 1 µs for values of attributes.
EXPRESSION_COST_UNITS_MAX: Final = 1_000
# All active rules of one trigger together: what a single check-in can cost its partition at most.
TRIGGER_COST_UNITS_MAX: Final = 4_000

# --- values that an expression sees; who makes moments keeps them -----------------------------------------------------
INTEGER_MAX: Final = 2**53  # and its negative is the least: what JSON carries exactly
TEXT_CHARS_MAX: Final = 120  # ids, names, tiers, tags
TAGS_PER_EVENT_MAX: Final = 32
ATTRIBUTE_CHARS_MAX: Final = 16_384  # of one member, all attributes together
# In one attribute, at all levels: handing a value to CEL takes up to a microsecond each time. One that holds more is
# not looked into.
ATTRIBUTE_VALUES_MAX: Final = 32

# --- evaluation -------------------------------------------------------------------------------------------------------
DEPTH_MAX: Final = 3  # a moment at this depth fires nothing
COMPILED_EXPRESSIONS_REMEMBERED_MAX: Final = 4_096
LOCAL_TIMES_REMEMBERED_MAX: Final = 4_096
SIMULATION_EXAMPLES_MAX: Final = 20
