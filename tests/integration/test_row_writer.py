"""Arrays of text as the row writer spells them, read back by a real Postgres."""

from __future__ import annotations

import asyncpg
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.row_writer import text_array

# All that Postgres can hold: no NUL, no half of a surrogate pair.
storable = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
awkward = st.sampled_from(["", "NULL", "null", "{}", "a,b", '"', "\\", '\\"', '","', " ", "\n", "'"])


async def test_an_array_of_text_comes_through_unaltered(postgres_database: str) -> None:
    connection = await asyncpg.connect(postgres_database)

    @settings(max_examples=300, deadline=None)
    @given(st.lists(st.none() | awkward | storable, min_size=1))
    def collect(values: list[str | None]) -> None:
        samples.append(values)

    samples: list[list[str | None]] = []
    collect()
    for values in samples:
        assert await connection.fetchval("SELECT $1::text::text[]", text_array(values)) == values
    await connection.close()
