"""The file in which a client keeps what it asked and what it was told, for the audit (`mastervip audit --acks`).

One JSON document a line, only ever appended:

    {"t": "sent", "tenant": "org_…", "id": "…"}                        written before the request leaves
    {"t": "ack", "tenant": "org_…", "id": "…", "outcome": {…}}         an outcome: a verdict, a ledger entry, a refusal
    {"t": "rejected", "tenant": "org_…", "id": "…", "code": "…"}       an answer that promises no effect, now or later

Rules:
1. What was acknowledged is in the journal, with the outcome that was told, however often and by whomever it was told.
2. What was rejected for good is not in the journal. What got no answer may be there once or not at all.
3. `outcome` is the answer's body without `replayed`; times may be RFC 3339 or milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from hashlib import blake2b
from typing import Any

import msgspec

from actors.facts import Fact
from storage.audit_checks import Finding, Findings

Key = tuple[str, str]
OutcomeOf = Callable[[Fact], Any]
_TIMES = frozenset({"at"})
_LEFT_OUT = frozenset({"replayed", "t", "id"})
_encode = msgspec.json.Encoder(order="deterministic").encode


class AckLine(msgspec.Struct):
    """A line of the file."""

    t: str
    tenant: str
    id: str
    outcome: dict[str, Any] | None = None
    code: str = ""


class AckFileDamaged(Exception):
    """A line that is no document: the file is not what a client wrote."""


def canonical(outcome: object) -> bytes:
    """A digest of an outcome, the same whether it came over REST or a socket."""
    plain = msgspec.to_builtins(outcome)
    asked = {name: value for name, value in plain.items() if name not in _LEFT_OUT}
    return blake2b(_encode(_plain(asked)), digest_size=16).digest()


def _plain(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _plain(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if name in _TIMES and isinstance(value, str):
        return round(datetime.fromisoformat(value).timestamp() * 1000)
    return value


class AckBook:
    """What clients were told; shown every fact of the journal, it finds what is missing or different (check `acks`).

    `outcome_of` renders the fact that answered a request as a client is told it."""

    def __init__(self, lines: Iterable[bytes], outcome_of: OutcomeOf) -> None:
        self._outcome_of = outcome_of
        self._told: dict[Key, bytes] = {}
        self._rejected: dict[Key, str] = {}
        self._found: set[Key] = set()
        self.sent: set[Key] = set()
        self.findings: list[Finding] = []
        decoder = msgspec.json.Decoder(AckLine)
        pending: bytes | None = None
        for line in lines:
            if pending is not None:
                self._take_line(decoder, pending)
            pending = line
        # The client may have been killed while it wrote its last line.
        if pending is not None and pending.endswith(b"\n"):
            self._take_line(decoder, pending)

    def _take_line(self, decoder: msgspec.json.Decoder[AckLine], text: bytes) -> None:
        try:
            line = decoder.decode(text)
        except msgspec.DecodeError as error:
            raise AckFileDamaged(f"{text[:100]!r}: {error}") from error
        key = (line.tenant, line.id)
        if line.t == "sent":
            self.sent.add(key)
        elif line.t == "rejected":
            self._rejected[key] = line.code
        else:
            told = canonical(line.outcome)
            if self._told.setdefault(key, told) != told:
                self.findings.append(Finding("acks", -1, f"request {key} was told two outcomes"))

    def __len__(self) -> int:
        return len(self._told)

    def take(self, findings: Findings, fact: Fact) -> None:
        """See `storage.audit.FactListener`."""
        if not fact.request_id:
            return
        key = (fact.tenant_id, fact.request_id)
        if key in self._rejected:
            findings.add("acks", f"request {key} was rejected ({self._rejected[key]}), but has an effect")
        told = self._told.get(key)
        if told is None:
            return
        self._found.add(key)
        if canonical(self._outcome_of(fact)) != told:
            findings.add("acks", f"request {key} was told another outcome than {self._outcome_of(fact)}")

    def missing(self) -> list[Finding]:
        """Once every partition has been read: acknowledged, and not there."""
        gone = sorted(self._told.keys() - self._found)
        return [Finding("acks", -1, f"request {key} was acknowledged and is not in the journal") for key in gone]
