"""What the tests of other things stand on: directories in memory that leave nothing behind, and databases of one's
own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from storage.migrate import migrate
from tests.support.databases import temporary_database
from tests.support.memory_disk import memory_directory

HOLDER = """
import sys, time
from pathlib import Path
from tests.support.memory_disk import memory_directory
with memory_directory(Path(sys.argv[1]), Path(sys.argv[2]), 0) as directory:
    print(directory, flush=True)
    time.sleep(600)
"""


def test_a_directory_in_memory_goes_with_its_process_however_that_ends(tmp_path: Path) -> None:
    memory, disk = tmp_path / "memory", tmp_path / "disk"
    memory.mkdir()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(disk), str(memory)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert holder.stdout is not None
    with holder.stdout:
        theirs = Path(holder.stdout.readline().strip())
        with memory_directory(disk, memory, 0) as ours:
            assert ours.parent == theirs.parent == memory
            assert theirs.exists(), "that of a living process stays"
        assert not ours.exists()
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
    assert theirs.exists()
    with memory_directory(disk, memory, 0):
        assert not theirs.exists()
    assert not list(memory.iterdir())


@pytest.mark.parametrize(("memory", "needed_bytes"), [("there", 2**62), ("absent", 0)])
def test_without_enough_memory_it_is_on_the_disk(tmp_path: Path, memory: str, needed_bytes: int) -> None:
    (tmp_path / "there").mkdir()
    with memory_directory(tmp_path / "disk", tmp_path / memory, needed_bytes) as directory:
        assert directory == tmp_path / "disk"
    assert not list((tmp_path / "there").iterdir())


async def test_each_test_has_a_migrated_database_of_its_own(
    postgres_url: str, postgres_template: str, migrated_database: str
) -> None:
    assert await migrate(migrated_database) == []
    async with temporary_database(postgres_url, postgres_template) as other:
        for url in (migrated_database, other):
            connection = await asyncpg.connect(url)
            try:
                assert await connection.fetchval("SELECT count(*) FROM accounts") == 0
                await connection.execute("DROP TABLE accounts CASCADE")
            finally:
                await connection.close()


async def test_nobody_writes_to_what_databases_are_copied_from(postgres_url: str, postgres_template: str) -> None:
    with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError, match="not currently accepting connections"):
        await asyncpg.connect(f"{postgres_url.rpartition('/')[0]}/{postgres_template}")
