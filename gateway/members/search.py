"""Searching members by name, e-mail, phone and card number, with tolerance for accents and typing errors.

What is found comes in this order, each member once, at its best place:

1. `exact`: the whole of an e-mail address, a phone number, a card's or a member's id, or an external id. A card's
   number may be typed without its prefix, from `CARD_PREFIX_CHARS_MIN` characters on also without its end, and with the
   letters that its alphabet leaves out (o for 0, i and l for 1).
2. `name`: the name begins with what was typed; by name, those first that have the very accents.
3. `words`: every word that was typed is in name, e-mail or phone number (one of less than three letters: begins a
   word); by similarity. Where more than `SEARCH_CANDIDATES_MAX` qualify, that many of them are ranked.
4. `similar`: the same with two neighbouring letters swapped, then by similarity (`word_similarity` of pg_trgm). Looked
   for only where there was nothing exact and there is room left. The thresholds of `SEARCH_SIMILARITIES` are tried from
   the top, the lower ones only while nothing has been found at all.

Rules:
1. `mv_fold` (migration 0006) compares: accents, case and surplus blanks make no difference. Phone numbers are compared
   by their digits, a national number also as the international one.
2. Every step goes by an index that begins with tenant_id, and ranks a bounded number of rows.
3. `%`, `_` and `\\` in what was typed mean themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, Literal

import asyncpg
import msgspec

from gateway.ids import ALPHABET
from gateway.members import limits
from gateway.members.model import Member
from gateway.members.store import find
from storage.postgres import Connection

Match = Literal["exact", "name", "words", "similar"]
# Patterns and thresholds decide which way is quick, so each statement is planned for its own.
_SETTINGS: Final = "SET LOCAL plan_cache_mode = force_custom_plan"
_THRESHOLD: Final = "SELECT set_config('pg_trgm.word_similarity_threshold', $1, true)"
_EXACT: Final = """
SELECT member_id, 1::real AS score FROM (
    SELECT member_id FROM members WHERE tenant_id = $1 AND member_id = $2 AND erased_at_ms IS NULL
    UNION ALL SELECT member_id FROM members WHERE tenant_id = $1 AND external_id = $2
    UNION ALL SELECT member_id FROM members WHERE tenant_id = $1 AND email IS NOT NULL AND lower(email) = lower($2)
    UNION ALL SELECT member_id FROM members WHERE tenant_id = $1 AND phone_digits = ANY($3::text[])
    UNION ALL SELECT member_id FROM cards WHERE tenant_id = $1 AND card_id = ANY($4::text[])
    UNION ALL (SELECT member_id FROM cards WHERE tenant_id = $1 AND card_id LIKE $5 ORDER BY card_id LIMIT $6)
) AS found LIMIT $6
"""
_NAMES: Final = """
SELECT member_id, word_similarity($2, search_text) AS score FROM (
    SELECT member_id, name, folded_name, search_text FROM members
    WHERE tenant_id = $1 AND folded_name LIKE $3 ORDER BY folded_name, member_id LIMIT $5) AS found
ORDER BY starts_with(lower(normalize(name, NFC)), lower(normalize($6, NFC))) DESC, folded_name, member_id LIMIT $4
"""
# Ranks the first $3 members for which the condition holds, by likeness to $2 …
_RANKED: Final = """
SELECT member_id, word_similarity($2, search_text) AS score FROM (
    SELECT member_id, search_text, folded_name FROM members WHERE tenant_id = $1 AND {} LIMIT $3) AS found
ORDER BY score DESC, folded_name, member_id LIMIT $4
"""
# … or to the one of the texts ($4) by whose pattern ($5) they were found.
_SWAPPED: Final = """
SELECT member_id, score FROM (SELECT member_id, search_text, folded_name FROM members
    WHERE tenant_id = $1 AND search_text LIKE ANY ($5::text[]) LIMIT $2) AS found,
LATERAL (SELECT max(word_similarity(v.text, search_text)) AS score, bool_or(starts_with(folded_name, v.text)) AS is_name
    FROM unnest($4::text[], $5::text[]) AS v (text, pattern) WHERE search_text LIKE v.pattern) AS best
ORDER BY is_name DESC, score DESC, folded_name, member_id LIMIT $3
"""
_fold_digits = str.maketrans({"o": "0", "i": "1", "l": "1"})
_has_letter = re.compile(r"[^\W_]").search
_has_run = re.compile(r"[^\W_]{3}").search
_is_number_like = re.compile(r"[-+0-9 ().]+\Z").match


class Hit(msgspec.Struct, frozen=True):
    """A member that was found; `score` is from 0 to 1."""

    member: Member
    match: Match
    score: float


class _Search:
    """One search, step by step; what is found is kept in that order, each member once."""

    def __init__(self, connection: Connection, tenant_id: str, limit: int) -> None:
        self._connection = connection
        self._tenant_id = tenant_id
        self._limit = limit
        self.hits: dict[str, tuple[Match, float]] = {}

    async def run(self, query: str) -> None:
        """All steps, as long as there is room."""
        await self._exact(query)
        is_exact = bool(self.hits)
        folded: str = await self._connection.fetchval("SELECT mv_fold($1)", query)
        words = [word for word in folded.split() if _has_letter(word)][: limits.QUERY_WORDS_MAX]
        if not words or self._is_full:
            return
        candidates = limits.SEARCH_CANDIDATES_MAX
        pattern_of_names = escaped(folded) + "%"
        rows = await self._connection.fetch(
            _NAMES, self._tenant_id, folded, pattern_of_names, self._limit, candidates, query
        )
        self._take("name", rows)
        if not self._is_full:
            # Each a condition of its own: the index does not serve LIKE ALL.
            every = " AND ".join(f"search_text LIKE ${number}" for number in range(5, 5 + len(words)))
            await self._ranked("words", every, folded, candidates, *map(pattern, words))
        if not self._is_full and not is_exact:
            await self._similar(folded, words)

    async def _exact(self, query: str) -> None:
        cards, card_prefix = card_ids(query)
        rows = await self._connection.fetch(
            _EXACT, self._tenant_id, query, phone_variants(query), cards, card_prefix, self._limit
        )
        self._take("exact", rows)

    async def _similar(self, folded: str, words: Sequence[str]) -> None:
        texts = swapped(" ".join(words))
        patterns = ["".join(map(pattern, text.split(" "))) for text in texts]
        candidates = limits.SEARCH_CANDIDATES_MAX
        query = self._connection.fetch(_SWAPPED, self._tenant_id, candidates, self._limit, texts, patterns)
        self._take("similar", await query)
        for number, similarity in enumerate(limits.SEARCH_SIMILARITIES):
            if self._is_full or (number and self.hits):
                return
            await self._connection.execute(_THRESHOLD, str(similarity))
            await self._ranked("similar", "$2 <% search_text", folded, limits.SEARCH_SIMILAR_CANDIDATES_MAX)

    async def _ranked(self, match: Match, condition: str, folded: str, candidates: int, *patterns: object) -> None:
        query = _RANKED.format(condition)
        self._take(
            match, await self._connection.fetch(query, self._tenant_id, folded, candidates, self._limit, *patterns)
        )

    def _take(self, match: Match, rows: Iterable[asyncpg.Record]) -> None:
        for row in rows:
            if not self._is_full:
                self.hits.setdefault(row["member_id"], (match, row["score"]))

    @property
    def _is_full(self) -> bool:
        return len(self.hits) >= self._limit


async def search(connection: Connection, tenant_id: str, query: str, limit: int) -> list[Hit]:
    """The members that `query` (not blank) finds, the best first."""
    searching = _Search(connection, tenant_id, limit)
    # One transaction: its settings end with it.
    async with connection.transaction(readonly=True):
        await connection.execute(_SETTINGS)
        await searching.run(query.strip())
        members = await find(connection, tenant_id, list(searching.hits))
    return [Hit(members[key], *hit) for key, hit in searching.hits.items() if key in members]


def escaped(text: str) -> str:
    """`text` within a LIKE pattern (rule 3)."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def phone_variants(query: str) -> list[str]:
    """The digits that a phone number may be stored with; empty for what is no phone number."""
    digits = re.sub("[^0-9]", "", query)
    if len(digits) < limits.PHONE_DIGITS_MIN or _is_number_like(query) is None:
        return []
    country, trunk = limits.PHONE_COUNTRY_CODE, limits.PHONE_TRUNK_PREFIX
    if digits.startswith("00"):
        digits = digits[2:]
    if digits.startswith(country):
        return [digits, trunk + digits[len(country) :]]
    if digits.startswith(trunk):
        return [digits, country + digits[len(trunk) :]]
    return [digits, trunk + digits, country + digits]


def card_ids(query: str) -> tuple[list[str], str | None]:
    """The ids of cards that may be meant, and a LIKE pattern for ids that begin so (None: too short, or no card's)."""
    text = query.strip().lower().removeprefix("card_")
    if not text.isascii() or not text.isalnum():
        return [], None
    number = text.translate(_fold_digits)
    if not set(number) <= set(ALPHABET) or len(number) < limits.CARD_PREFIX_CHARS_MIN:
        return [f"card_{text}"], None
    return [f"card_{text}", f"card_{number}"], f"card\\_{number}%"


def pattern(word: str) -> str:
    """A LIKE pattern for texts with this word. The index knows runs of three letters; shorter ones it finds where they
    begin a word."""
    return f"%{escaped(word)}%" if _has_run(word) else f"% {escaped(word)}%"


def swapped(words: str) -> list[str]:
    """The words with two neighbouring letters of one of them in each other's place."""
    texts = []
    for place in range(len(words) - 1):
        one, other = words[place], words[place + 1]
        if one != other and " " not in (one, other):
            texts.append(words[:place] + other + one + words[place + 2 :])
    return texts
