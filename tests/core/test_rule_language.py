"""How a rule is journaled: an encoding that must be read for ever."""

from __future__ import annotations

import msgspec

from rules.language import (
    AwardPoints,
    CallWebhook,
    GrantCoupon,
    Limits,
    Multiply,
    Notify,
    RuleDefinition,
    Schedule,
    SetTier,
)

FULL = RuleDefinition(
    rule_id="rule_1",
    version=2,
    name="n",
    on="schedule",
    when="true",
    then=(
        AwardPoints(1, "", 2, 3),
        AwardPoints(amount="4"),
        Multiply(1500),
        GrantCoupon("c"),
        SetTier("t"),
        Notify("m", "x"),
        CallWebhook("w"),
    ),
    limits=Limits(1, 2, 3),
    priority=4,
    valid_from_ms=5,
    valid_until_ms=6,
    state="paused",
    stacking="best",
    schedule=Schedule(540, (1,), (2,)),
    group="g",
)
ENCODED = [
    *("rule_1", 2, "n", "schedule", "true"),
    [
        ["award_points", 1, "", 2, 3],
        ["award_points", 0, "4", 0, 0],
        ["multiply", 1500],
        ["grant_coupon", "c"],
        ["set_tier", "t"],
        ["notify", "m", "x"],
        ["call_webhook", "w"],
    ],
    [1, 2, 3],
    *(4, 5, 6, "paused", "best", [540, [1], [2]], "g"),
]


def test_the_encoding_of_a_rule() -> None:
    """Fields may be added at the end; then this row grows, and what it holds now still reads."""
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(FULL)) == ENCODED
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(ENCODED), type=RuleDefinition) == FULL


def test_what_a_shorter_encoding_leaves_out_has_its_default() -> None:
    short = msgspec.msgpack.encode(ENCODED[:6])
    read = msgspec.msgpack.decode(short, type=RuleDefinition)
    assert (read.limits, read.state, read.stacking, read.schedule) == (Limits(), "draft", "all", None)
