"""Commands about an organisation's rules. Rules as in `actors.commands`."""

from __future__ import annotations

import msgspec

from rules.language import RuleDefinition


class SaveRule(msgspec.Struct, frozen=True, array_like=True, tag=70):
    """Makes a rule (`is_new`) or changes one. The version in the definition is the engine's to set. `if_version`: only
    if the rule has one of these versions."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    definition: RuleDefinition
    is_new: bool = False
    if_version: tuple[str, ...] | None = None


class DeleteRule(msgspec.Struct, frozen=True, array_like=True, tag=71):
    """Ends a rule for good."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    rule_id: str
    if_version: tuple[str, ...] | None = None


RuleCommand = SaveRule | DeleteRule
