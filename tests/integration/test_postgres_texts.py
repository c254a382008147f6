"""Arrays and rows as we spell them for Postgres, read back by a real one."""

from __future__ import annotations

import asyncpg
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.postgres_texts import COPY_OPTIONS, array, copy_rows

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
        assert await connection.fetchval("SELECT $1::text::text[]", array(values)) == values
    await connection.close()


async def test_an_array_of_numbers_comes_through_unaltered(postgres_database: str) -> None:
    connection = await asyncpg.connect(postgres_database)
    numbers = [0, None, -1, 2**63 - 1, -(2**63)]
    assert await connection.fetchval("SELECT $1::text::bigint[]", array(numbers)) == numbers
    truths = [True, None, False]
    assert await connection.fetchval("SELECT $1::text::boolean[]", array(truths)) == truths
    await connection.close()


async def test_rows_come_through_unaltered(postgres_database: str) -> None:
    connection = await asyncpg.connect(postgres_database)
    await connection.execute("CREATE TABLE samples (number bigint, word text, other text, is_so boolean)")
    words = (
        st.none()
        | st.sampled_from(["null", "\\N", "\\.", "\t", "\r\n", "a\\", "\\t", "]\n[", "a,b"])
        | awkward
        | storable
    )
    samples: list[list[tuple[int, str | None, str | None, bool]]] = []

    @settings(max_examples=200, deadline=None)
    @given(st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), words, words, st.booleans()), min_size=1))
    def collect(rows: list[tuple[int, str | None, str | None, bool]]) -> None:
        samples.append(rows)

    collect()
    for rows in samples:
        await connection.copy_to_table("samples", source=memoryview(copy_rows(rows)), **COPY_OPTIONS)
        assert [tuple(row) for row in await connection.fetch("TABLE samples")] == rows
        await connection.execute("TRUNCATE samples")
    await connection.close()
