"""What it costs to load cards from Postgres: `python -m tests.benchmarks.loading [CARDS]`.

Starts a Postgres of its own, fills it with cards (every second one has been in once) and loads batches of them as a
partition does. Prints, by the size of the batch, microseconds a card: of this process, which is the host's part, and in
all, which is Postgres' part too; and the bytes that a loaded card takes.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import asyncpg

from actors.ports import LoadRequest
from actors.residents import Residents
from serve.stores import quiet_port
from storage.embedded_postgres import EmbeddedPostgres
from storage.migrate import migrate
from storage.postgres import reader_pool
from storage.postgres_store import PostgresStore
from tests.benchmarks.memory import bytes_each
from tests.support.many_cards import ORG, fill, seeded_card_id

CARDS = 100_000
POSITION = 5_000_000_000
BATCHES = (1, 10, 50, 200, 1_000)
LOADED_OF_EACH = 4_000


async def measure(url: str, cards: int) -> list[str]:
    """A line for each size of a batch, and one for the bytes."""
    connection = await asyncpg.connect(url)
    await fill(connection, cards, POSITION)
    await connection.close()
    pool = await reader_pool(url, 1)
    store = PostgresStore(pool)
    residents = Residents()
    lines, first = [], 0
    for size in BATCHES:
        loads = max(10, min(LOADED_OF_EACH, cards // len(BATCHES)) // size)
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        for _ in range(loads):
            keys = tuple((ORG, seeded_card_id((first + n) * 7919 % cards)) for n in range(size))
            residents.install(await store.load(0, LoadRequest(cards=keys)))
            first += size
        cpu_us = (time.process_time() - cpu_s) * 1e6 / loads / size
        wall_us = (time.perf_counter() - wall_s) * 1e6 / loads / size
        lines.append(f"{size:6} at once {cpu_us:8.1f} us of the host {wall_us:8.1f} us in all")
    await pool.close()
    lines.append(f"{bytes_each(residents.cards):.0f} bytes a loaded card")
    return lines


def main() -> int:
    """The command."""
    cards = int(sys.argv[1]) if len(sys.argv) > 1 else CARDS
    with tempfile.TemporaryDirectory(prefix="mv-loading-") as directory:
        server = EmbeddedPostgres(Path(directory) / "postgres", quiet_port())
        server.start()
        try:
            asyncio.run(migrate(server.url))
            lines = asyncio.run(measure(server.url, cards))
        finally:
            server.stop()
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
