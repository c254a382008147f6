"""Which rules apply to a moment, and what they give. Pure, deterministic, in the order in which the rules stand."""

from __future__ import annotations

from collections.abc import Sequence

from rules.model import Award, CheckInMoment, Rule


def evaluate(rules: Sequence[Rule], moment: CheckInMoment) -> list[Award]:
    """The awards that an admitted entry earns; empty when no rule applies."""
    return [
        Award(rule.rule_id, rule.version, rule.points)
        for rule in rules
        if rule.on == "checkin" and rule.points > 0 and (moment.entries == 1 or not rule.once_per_event)
    ]
