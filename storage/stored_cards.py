"""Loading cards, with all that belongs to them.

Rules:
1. One statement for any number of cards: a host meets most of its cards in small batches, and a round trip costs it as
   much as loading a dozen of them.
2. What only cards with ledger entries have is not looked for on others, nor anything by day on those that never earned.
3. Equal visits are decoded once, and their text is one object for all cards: a million of them are kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from sys import intern

import asyncpg
import msgspec

from actors.card import DAYS_REMEMBERED, Card, days_kept
from actors.ports import TenantCard
from actors.profiles import NO_PROFILE, Profile
from actors.rule_facts import RuleUse
from actors.seldom import NOTHING_SELDOM, seldom_of
from actors.terms import TIER_WINDOW_DAYS_MAX, EarnedDay, Hold, Lot
from actors.visits import NO_VISITS, Visit, Visits
from storage.postgres import Connection

# The columns up to `issued_at_ms` are the first fields of a card, but for its lots and visits. No more days than a card
# remembers have rows within its window, so the latest ones are enough.
_CARDS = f"""
SELECT t.tenant_id, t.card_id, t.member_id, t.member_name, t.tier, t.valid_from_ms, t.valid_until_ms, t.state,
    t.balance, t.earned, t.earned_position, t.entry_count, t.day, t.day_earned, t.day_position, lots.found, t.wallet,
    t.position, t.serial, t.number, t.visits, t.issued_at_ms, past.found,
    t.attention, t.tag_uid, uses.found, t.tier_due_ms, t.tier_is_held, earned.found, t.profile,
    t.birthday_on, t.birthday_due_ms, t.birthday_year, holds.found
FROM unnest($1::text[], $2::text[]) AS u (tenant_id, card_id) JOIN cards AS t USING (tenant_id, card_id)
LEFT JOIN LATERAL (
    SELECT json_agg(json_build_array(l.lot, l.remaining, l.expires_at_ms, l.available_from_ms)
        ORDER BY l.expires_at_ms, l.lot)::text AS found
    FROM lots AS l
    WHERE l.tenant_id = t.tenant_id AND l.card_id = t.card_id AND l.remaining > 0 AND t.entry_count > 0
) AS lots ON true
LEFT JOIN LATERAL (
    SELECT json_agg(json_build_array(h.entry_seq, h.account, h.held, h.lapses_at_ms, h.parts::json)
        ORDER BY h.entry_seq)::text AS found
    FROM holds AS h
    WHERE h.tenant_id = t.tenant_id AND h.card_id = t.card_id AND h.state = 'open' AND t.entry_count > 0
) AS holds ON true
LEFT JOIN LATERAL (
    SELECT json_agg(json_build_array(r.rule_id, r.times, r.day, r.day_times) ORDER BY r.rule_id)::text AS found
    FROM rule_uses AS r WHERE r.tenant_id = t.tenant_id AND r.card_id = t.card_id
) AS uses ON true
LEFT JOIN LATERAL (
    SELECT json_agg(json_build_array(e.day, e.points))::text AS found FROM (
        SELECT one.day, one.points FROM earned_days AS one
        WHERE one.tenant_id = t.tenant_id AND one.card_id = t.card_id AND t.entry_count > 0
        ORDER BY one.day DESC LIMIT {TIER_WINDOW_DAYS_MAX}
    ) AS e
) AS earned ON true
LEFT JOIN LATERAL (
    SELECT json_agg(json_build_array(s.day, s.earned) ORDER BY s.day)::text AS found
    FROM generate_series(1, {DAYS_REMEMBERED}) AS ago
    JOIN day_scores AS s ON s.tenant_id = t.tenant_id AND s.card_id = t.card_id
        AND s.day = to_char(to_date(t.day::text, 'YYYYMMDD') - ago, 'YYYYMMDD')::integer
    WHERE t.day > 0 AND s.earned <> 0
) AS past ON true
"""
# Where in a row what has to be decoded stands, and where `Card`'s own fields end.
_LOTS, _VISITS, _PAST, _OWN = 15, 20, 22, 23
# Numbers that many cards have in common: the validity and the latest day. And two that are often the same.
_COMMON = (5, 6, 12)
_EARNED_POSITION, _DAY_POSITION = 10, 14
_NOTHING_SELDOM = ("", "", None, 0, False, None, "", 0, 0, 0, None)

_profile_decoder = msgspec.json.Decoder(Profile)
_visits_decoder = msgspec.json.Decoder(Visits)
_lots_decoder = msgspec.json.Decoder(tuple[Lot, ...])
_holds_decoder = msgspec.json.Decoder(tuple[Hold, ...])
_uses_decoder = msgspec.json.Decoder(tuple[RuleUse, ...])
_days_decoder = msgspec.json.Decoder(tuple[EarnedDay, ...])


async def load_cards(connection: Connection, keys: Iterable[TenantCard]) -> dict[TenantCard, Card]:
    """The cards of these keys that there are."""
    columns = list(map(list, zip(*keys, strict=True)))
    if not columns:
        return {}
    return {(row[0], row[1]): _card(row) for row in await connection.fetch(_CARDS, *columns)}


def _card(row: asyncpg.Record) -> Card:
    values = list(row[:_OWN])
    lots, visits, past = values[_LOTS], values[_VISITS], values[_PAST]
    for place in _COMMON:
        values[place] = _same(values[place])
    if values[_EARNED_POSITION] == values[_DAY_POSITION]:
        values[_DAY_POSITION] = values[_EARNED_POSITION]
    values[_LOTS] = _lots_decoder.decode(lots) if isinstance(lots, str) else ()
    values[_VISITS] = _visits(visits) if isinstance(visits, str) else NO_VISITS
    values[_PAST] = _days(past) if isinstance(past, str) else ()
    rest = tuple(row[_OWN:])
    values.append(NOTHING_SELDOM if rest == _NOTHING_SELDOM else _seldom(*rest))
    return Card(*values)


def _seldom(
    attention: str,
    tag_uid: str,
    uses: str | None,
    tier_due_ms: int,
    tier_is_held: bool,
    earned: str | None,
    profile: str,
    birthday_on: int,
    birthday_due_ms: int,
    birthday_year: int,
    holds: str | None,
) -> object:
    return seldom_of(
        attention,
        tag_uid,
        _uses_decoder.decode(uses) if uses else (),
        tier_due_ms,
        tier_is_held,
        days_kept(_days_decoder.decode(earned)) if earned else (),
        _profile_decoder.decode(profile) if profile else NO_PROFILE,
        birthday_on,
        birthday_due_ms,
        birthday_year,
        _holds_decoder.decode(holds) if holds else (),
    )


@lru_cache(maxsize=1024)
def _same(value: object) -> object:
    """The same object for equal values."""
    return value


@lru_cache(maxsize=8192)
def _visits(text: str) -> Visits:
    if not text:
        return NO_VISITS
    visits = _visits_decoder.decode(text)
    recent = tuple([Visit(one.day, intern(one.event_id), one.again) for one in visits.recent])
    return msgspec.structs.replace(visits, recent=recent)


@lru_cache(maxsize=8192)
def _days(text: str) -> tuple[EarnedDay, ...]:
    return _days_decoder.decode(text)
