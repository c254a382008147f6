"""A scanner's memory: one SQLite file in a directory of its own.

Rules:
1. What `changing` wraps is on disk, or not at all: SQLite has it fsynced before the block is left (`synchronous = FULL`
   with a write-ahead log), also when the power goes the moment after.
2. One scanner uses a directory at a time; a second one is refused.
3. The file holds the device's token, so it is for its owner alone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FILE_NAME = "scanner.db"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS kept (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS barred (card_id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS serials (card_id TEXT PRIMARY KEY, serial INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS listed (card_id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS scans (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    scan_id TEXT NOT NULL UNIQUE,
    event_id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    card_id TEXT NOT NULL,
    is_waiting INTEGER NOT NULL,
    scan BLOB NOT NULL,
    outcome BLOB
);
CREATE INDEX IF NOT EXISTS scans_waiting ON scans (number) WHERE is_waiting;
CREATE INDEX IF NOT EXISTS scans_of_card ON scans (event_id, card_id, session_id);
"""


class DirectoryInUse(Exception):
    """Another scanner works with this directory."""


class Disk:
    """The open file. Belongs to one thread."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = directory / FILE_NAME
        path.touch(mode=0o600)
        self.rows = sqlite3.connect(path, timeout=0, isolation_level=None)
        try:
            # Exclusive: the lock is taken with the first write, and kept. It goes with the process, however that ends.
            self.rows.execute("PRAGMA locking_mode = EXCLUSIVE")
            self.rows.execute("PRAGMA journal_mode = WAL")
            self.rows.execute("PRAGMA synchronous = FULL")
            self.rows.executescript("BEGIN IMMEDIATE;" + _SCHEMA + "COMMIT;")
        except sqlite3.OperationalError as error:
            self.rows.close()
            if "locked" not in str(error):
                raise
            raise DirectoryInUse(f"another scanner uses {directory}") from error

    @contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """One change: all of it, fsynced, or nothing (rule 1)."""
        self.rows.execute("BEGIN IMMEDIATE")
        try:
            yield self.rows
        except BaseException:
            self.rows.execute("ROLLBACK")
            raise
        self.rows.execute("COMMIT")

    def close(self) -> None:
        """Ends the use of it."""
        self.rows.close()
