"""Encodings: facts as released, and nothing decoded that is not exactly what it should be.

`tests/golden/facts_v1.json` is what the first release wrote, for every kind of fact. It is never edited: new kinds and
new fields get a file of their own (`facts_v2.json`: plans, `facts_v3.json`: names, `facts_v4_points.json`: double
entry, holds and wallets), and journals in the field hold what is in this one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from actors.codec import (
    Answers,
    Message,
    UnknownEntryVersion,
    decode_answers,
    decode_digest,
    decode_fact,
    decode_facts,
    decode_messages,
    encode_answers,
    encode_digest,
    encode_fact,
    encode_facts,
    encode_messages,
    payload_of,
)
from actors.commands import ChangePlan, Command, IssueCard, OpenTenant, fingerprint
from actors.entry import ENTRY_VERSION, Entry
from actors.facts import CardIssued, CardStateChanged, Fact, TenantChanged, TenantOpened
from actors.queries import GetBoard, GetTopic
from actors.replies import BoardRow, BoardView, Deferred, Digest, Done, Failed, Update
from actors.terms import TenantSettings
from storage.replay import WorldState
from tests.core.build import NOW_MS, award, check_in, founding

RELEASES = [
    json.loads(file.read_text()) for file in sorted((Path(__file__).parent.parent / "golden").glob("facts_v*.json"))
]
GOLDEN = [row for release in RELEASES for row in release]
# What the latest release that changed a kind wrote of it: this is what is written today.
CURRENT = [
    row
    for number, release in enumerate(RELEASES)
    for row in release
    if not any(later["fact"] == row["fact"] for newer in RELEASES[number + 1 :] for later in newer)
]
# Where each kind had its last field without a default when it was released: a fact cut off there still decodes.
REQUIRED_FIELDS = {kind: sum(field.required for field in msgspec.structs.fields(kind)) for kind in get_args(Fact)}


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: row["fact"])
def test_a_released_encoding_is_read_as_ever(row: dict[str, Any]) -> None:
    fact = decode_fact(bytes.fromhex(row["encoding"]))
    assert type(fact).__name__ == row["fact"]
    assert fact == msgspec.convert(row["fields"], Fact)  # type: ignore[arg-type]
    assert decode_fact(encode_fact(fact)) == fact


@pytest.mark.parametrize("row", CURRENT, ids=lambda row: row["fact"])
def test_the_latest_encoding_of_a_kind_is_what_is_written(row: dict[str, Any]) -> None:
    data = bytes.fromhex(row["encoding"])
    assert encode_fact(decode_fact(data)) == data
    assert len(msgspec.msgpack.decode(data)) == 1 + len(type(decode_fact(data)).__struct_fields__)


def test_every_kind_of_fact_is_in_the_golden_files() -> None:
    assert {row["fact"] for row in CURRENT} == {kind.__name__ for kind in get_args(Fact)}


def test_facts_from_before_plans_are_premium_and_count_no_cards() -> None:
    """What the first release wrote leaves a tenant as it was then, also in what a replay gives."""
    world = WorldState()
    for index, row in enumerate(RELEASES[0]):
        fact = decode_fact(bytes.fromhex(row["encoding"]))
        if isinstance(fact, TenantOpened | TenantChanged):
            assert fact.settings.plan == "premium"
        if isinstance(fact, TenantOpened) and not world.tenants:
            world.apply(fact, index + 1)
        elif isinstance(fact, CardIssued | CardStateChanged):
            assert fact.cards_after == -1
            world.tenants["org_1"].apply(fact, index + 1)
    assert (world.tenants["org_1"].cards, world.tenants["org_1"].position) == (0, 1)


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: row["fact"])
def test_fields_that_were_added_later_have_defaults(row: dict[str, Any]) -> None:
    fact = decode_fact(bytes.fromhex(row["encoding"]))
    fields = msgspec.msgpack.decode(bytes.fromhex(row["encoding"]))
    shortest = 1 + REQUIRED_FIELDS[type(fact)]
    assert decode_fact(msgspec.msgpack.encode(fields[:shortest])).request_id == fact.request_id
    with pytest.raises(msgspec.ValidationError):
        decode_fact(msgspec.msgpack.encode(fields[: shortest - 1]))
    # What a newer release added is passed over, not refused: the entry's version says whether that is right.
    today = msgspec.msgpack.decode(encode_fact(fact))
    assert decode_fact(msgspec.msgpack.encode([*today, "new"])) == fact


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 65_535, 65_536])
def test_facts_that_are_encoded_one_by_one_make_the_same_payload(count: int) -> None:
    fact = decode_fact(bytes.fromhex(GOLDEN[0]["encoding"]))
    assert payload_of([encode_fact(fact)] * count) == encode_facts([fact] * count)


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", b"\x91\x63", b"\x80", b"\x94\x01\x01\x01\x01", b"\x91\x07"], ids=lambda data: data.hex()
)
def test_nothing_else_is_a_fact(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_fact(data)


def test_an_entry_of_a_newer_version_is_not_read() -> None:
    payload = encode_facts(founding())
    assert decode_facts(Entry(1, 1, NOW_MS, bytes(8), payload)) == founding()
    with pytest.raises(UnknownEntryVersion):
        decode_facts(Entry(1, 1, NOW_MS, bytes(8), payload, ENTRY_VERSION + 1))


def test_messages_answers_and_digests_come_back_as_they_were() -> None:
    messages: list[Message] = [check_in(), award(5), GetBoard("org", "points", "all"), GetTopic("org", "event:e", 3, 4)]
    assert decode_messages(encode_messages(messages)) == messages
    answers = Answers([Done(founding()[0], True, 65536), Failed("moved", "", 50), Deferred()], 7)
    assert decode_answers(encode_answers(answers)) == answers
    board = BoardView("points", "all", 1, (BoardRow(1, "card", "Ann", 5),))
    digest = Digest("org", "leaderboard:points", 3, Update(4, board))
    assert decode_digest(encode_digest(digest)) == digest


def test_tags_are_never_used_twice() -> None:
    tags = [kind.__struct_config__.tag for kind in get_args(Fact)]
    assert len(set(tags)) == len(tags)
    messages = [kind.__struct_config__.tag for kind in get_args(Message)]
    assert len(set(messages)) == len(messages)


def test_a_fingerprint_tells_requests_apart_and_nothing_else() -> None:
    def same(one: Command, other: Command) -> bool:
        return fingerprint(one) == fingerprint(other)

    scan = check_in("scan", gate_id="gate_a")
    assert same(scan, check_in("another id", gate_id="gate_a", device_id="other device", valid_until_ms=5))
    for other in (check_in(gate_id="gate_b"), check_in(card_id="card2"), check_in(direction="exit"), check_in()):
        assert not same(scan, other)
    assert same(award(5), award(5, "another id"))
    for other_award in (award(6), award(5, card_id="card2"), award(5, expires_at_ms=NOW_MS)):
        assert not same(award(5), other_award)


def test_fingerprints_of_the_first_release_are_kept() -> None:
    """A request from before an upgrade that is tried again after it is the same request."""
    opened = OpenTenant("org", "id", b"", "High Table", TenantSettings("UTC", 5, ()))
    assert fingerprint(opened).hex() == "4fbdbe2a6d6a32af"
    free = msgspec.structs.replace(opened, settings=TenantSettings("UTC", 5, (), "free"))
    assert fingerprint(free) != fingerprint(opened)
    issue = IssueCard("org", "id", b"", "card", "mem", "Ann", "gold", 1, 2)
    assert fingerprint(issue).hex() == "9c18e5ce609130e0"
    assert fingerprint(ChangePlan("org", "id", b"", "free")) != fingerprint(ChangePlan("org", "id", b"", "premium"))
