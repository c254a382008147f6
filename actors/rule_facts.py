"""Facts about an organisation's rules: what they are, and what they did. Rules as in `actors.facts`.

`cause` is what happened: "checkin:<scan id>", "exit:<scan id>", "entry:<entry seq>", "tier:<request id>",
"issue:<request id>", "coupon:<redemption id>", "birthday:<local day>" or "schedule:<when it came>"; what rules led to
has the cause of the rule.
"""

from __future__ import annotations

from typing import Literal, final

import msgspec

from rules.language import RuleDefinition

EffectKind = Literal["notify", "call_webhook"]


class RuleSaved(msgspec.Struct, frozen=True, array_like=True, tag=70):
    """A rule is like this from now on; `definition.version` is one more than before."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    at_ms: int
    definition: RuleDefinition

    @property
    def rule_id(self) -> str:
        """The rule's id."""
        return self.definition.rule_id


class RuleDeleted(msgspec.Struct, frozen=True, array_like=True, tag=71):
    """A rule is no more; `version` was its last one. What it had used is forgotten."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    at_ms: int
    rule_id: str
    version: int


class RuleUnits(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What one application of a rule used: `points` of its budget and, where it has a limit per card (`day` is not 0),
    one time for the card, on local day `day`. `codes` are the ids of the coupons that it granted."""

    rule_id: str
    version: int
    points: int
    day: int = 0
    codes: tuple[str, ...] = ()


class RuleUse(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How often a rule with a limit per card has applied to a card: in all, and on the latest local day `day`."""

    rule_id: str
    times: int
    day: int
    day_times: int


class RuleStep(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What was used, and what that makes: the points that the rule has given in all, and the card's use of it, None
    where that does not count."""

    units: RuleUnits
    points_after: int
    use: RuleUse | None = None


class RuleFailure(msgspec.Struct, frozen=True, array_like=True):
    """A rule that could not be computed, or had no room, and was skipped. `where` is "when" or "then/<number>"."""

    rule_id: str
    version: int
    where: str
    reason: str


class RuleFailed(msgspec.Struct, frozen=True, array_like=True):
    """How a rule last failed: its version then, the local day for which that was noted, when, and why."""

    version: int
    day: int
    at_ms: int
    where: str
    reason: str


@final
class RulesApplied(msgspec.Struct, frozen=True, array_like=True, tag=72):
    """What rules made of a moment (`rules.moment`) of a card: those that applied, in their order, and those that
    failed for the first time on local day `failed_on` (of a version: then it is not told again on that day; 0 where
    none failed, and in facts from when each failure was told). `depth` is how many effects of rules led to the
    moment."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    at_ms: int
    card_id: str
    cause: str
    trigger: str
    depth: int
    steps: tuple[RuleStep, ...]
    failures: tuple[RuleFailure, ...] = ()
    failed_on: int = 0


class EffectRequested(msgspec.Struct, frozen=True, array_like=True, tag=73):
    """A rule wants something that happens outside: a message to the card's holder (`name` is the template, "" for none,
    `text` what it says), or a call of the webhook `name`. Who delivers it reads it from the journal's archive."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    at_ms: int
    card_id: str
    cause: str
    rule_id: str
    version: int
    kind: EffectKind
    name: str = ""
    text: str = ""


class RuleUnitsReturned(msgspec.Struct, frozen=True, array_like=True, tag=74):
    """What rules had used for a cause is theirs again, for the cause was annulled."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    at_ms: int
    card_id: str
    cause: str
    steps: tuple[RuleStep, ...]


RuleFact = RuleSaved | RuleDeleted | RulesApplied | EffectRequested | RuleUnitsReturned
