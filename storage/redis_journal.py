"""The write-ahead journal on Redis Streams (or Valkey): one stream per partition, fenced by scripts.

Rules:
1. Keys of partition NN share one hash tag, so that a script may touch them all in a cluster:
   `mv:{pNN}:journal` (stream; ids are `<epoch>-<seq>`), `mv:{pNN}:fence` (hash: epoch, seq, checksum of the tail),
   `mv:{pNN}:projected` (hint).
2. Fence and stream are two witnesses of the same tail. Every script compares them before it writes; when they disagree
   the answer is `JournalCorrupt` and nothing is repaired.
3. Appends and opens go through `storage.redis_pipe`, never through redis-py's retries. What was sent and got no reply
   is `OutcomeUnknown`.
4. Nothing is appended to a server whose settings could lose what it confirmed (`REQUIRED_SETTINGS`), checked on each
   connection before its first append.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import RedisError, ResponseError

from actors.entry import EMPTY_PAYLOAD, ENTRY_PAYLOAD_BYTES_MAX, Entry, Mark, sealed
from actors.ports import Fenced, JournalCorrupt, JournalError, JournalFull, JournalGap, OutcomeUnknown, UnsafeJournal
from storage.redis_pipe import Command, Pipe, Script

APPEND_TIMEOUT_MS = 5_000
CONNECT_TIMEOUT_MS = 5_000  # with the check of the settings
READ_TIMEOUT_MS = 5_000
READ_CONNECTIONS_MAX = 16
# An opener loses the race once for each entry the old writer gets in; more than this many in a row is no race.
OPEN_ATTEMPTS_MAX = 1_000

REQUIRED_SETTINGS = {
    "appendonly": "yes",
    "appendfsync": "always",
    "no-appendfsync-on-rewrite": "no",
    "maxmemory-policy": "noeviction",
    "aof-load-truncated": "no",
}

_LUA = Path(__file__).parent / "lua"
_SHARED = (_LUA / "journal_shared.lua").read_bytes()
# The words after the script in APPEND's and OPEN's command: number of keys, 3 keys, 9 arguments.
_APPEND = Script(_SHARED + (_LUA / "journal_append.lua").read_bytes(), 13)
_OPEN = Script(_SHARED + (_LUA / "journal_open.lua").read_bytes(), 13)
_TAIL = _SHARED + (_LUA / "journal_tail.lua").read_bytes()
_TRIM = (_LUA / "journal_trim.lua").read_bytes()
_NOTE = (_LUA / "journal_note.lua").read_bytes()

# Redis' own refusals that pass: out of memory; disk in trouble; too few replicas.
_FULL_CODES = (b"OOM", b"MISCONF", b"NOREPLICAS")


class _Raced(JournalError):
    """The tail moved between reading it and opening on top of it. Nothing was written."""


class _Run:
    """Appends of one epoch that follow each other. The first one that fails ends the run for all behind it.

    Redis refuses those behind as not contiguous, which sounds like corruption and is not: they get the failure of the
    one before them. And what is appended before the caller has noticed is not even sent.
    """

    __slots__ = ("epoch", "failed_seq", "failure")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.failed_seq = 0
        self.failure: JournalError | None = None

    def fail(self, seq: int, failure: JournalError) -> None:
        if self.failure is None:
            self.failed_seq, self.failure = seq, failure

    def inherited(self) -> JournalError | None:
        """What an append behind the failed one is told; None while nothing has failed."""
        if self.failure is None:
            return None
        return type(self.failure)(f"entry {self.failed_seq} before it failed: {self.failure}")


class _Lane:
    """One partition as the writer sees it: its keys and the run that appends belong to."""

    __slots__ = ("fence", "journal", "keys", "projected", "run")

    def __init__(self, partition: int) -> None:
        tag = f"mv:{{p{partition:02d}}}"
        self.journal, self.fence, self.projected = f"{tag}:journal", f"{tag}:fence", f"{tag}:projected"
        keys = (self.journal.encode(), self.fence.encode(), self.projected.encode())
        self.keys = b"$1\r\n3\r\n" + b"".join(b"$%d\r\n%b\r\n" % (len(key), key) for key in keys)
        self.run = _Run(0)

    def run_of(self, epoch: int, seq: int) -> _Run:
        """The run of an append. A retry of the entry that failed begins a new one, and so does a new epoch."""
        run = self.run
        if epoch < run.epoch:
            return _Run(epoch)  # an old writer's, in the same process as its successor: leave the successor's alone
        if epoch > run.epoch or (run.failure is not None and seq <= run.failed_seq):
            run = self.run = _Run(epoch)
        return run


class _Write(Command):
    """An append or open on its way; `reply` becomes the projected hint."""

    __slots__ = ("reply", "run", "seq")

    def __init__(self, partition: int, script: Script, arguments: bytes, run: _Run, seq: int) -> None:
        super().__init__(partition, script, arguments)
        self.run = run
        self.seq = seq
        self.reply: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def settle(self, line: bytes) -> None:
        if line.startswith(b"+OK "):
            if not self.reply.done():
                self.reply.set_result(int(line[4:]))
            return
        error = _error_of(line)
        if isinstance(error, JournalCorrupt):
            error = self.run.inherited() or error
        self.fail(error)

    def fail(self, error: BaseException) -> None:
        if isinstance(error, JournalError):
            self.run.fail(self.seq, error)
        # Done already if the caller was cancelled; the run had to hear of the failure all the same.
        if not self.reply.done():
            self.reply.set_exception(error)


def _arguments(keys: bytes, entry: Entry, previous: Mark) -> bytes:
    """The words of a command after its script, as journal_append.lua lists them."""
    epoch, seq, at_ms, version = b"%d" % entry.epoch, b"%d" % entry.seq, b"%d" % entry.at_ms, b"%d" % entry.version
    previous_epoch, previous_seq = b"%d" % previous.epoch, b"%d" % previous.seq
    return (
        b"%b$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n"
        b"$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n"
    ) % (
        *(keys, len(epoch), epoch, len(seq), seq),
        *(len(previous_epoch), previous_epoch, len(previous_seq), previous_seq),
        *(len(previous.checksum), previous.checksum, len(version), version),
        *(len(at_ms), at_ms, len(entry.checksum), entry.checksum, len(entry.payload), entry.payload),
    )


def _error_of(line: bytes) -> JournalError:
    """What a reply that is not OK means. Unless it is sure that nothing was written it is `OutcomeUnknown`."""
    status, _, why = line[1:].partition(b" ")
    story = why.decode(errors="replace")
    if line[:1] == b"+":
        if status == b"FENCED":
            return Fenced(story)
        if status == b"CORRUPT":
            return JournalCorrupt(story)
        if status == b"RACED":
            return _Raced()
        # REFUSED: Redis' own words about the script's first write. Redis 6 puts a dash before them.
        status = why.lstrip(b"-").partition(b" ")[0]
    if status in _FULL_CODES:
        return JournalFull(f"Redis refused: {line[1:].decode(errors='replace')}")
    if status == b"WRONGTYPE":
        return JournalCorrupt(f"a key of the journal is something else: {story}")
    return OutcomeUnknown(f"Redis answered: {line[1:].decode(errors='replace')}")


class RedisJournal:
    """Implements `actors.ports.Journal`. Belongs to one event loop; connects on first use and again whenever needed."""

    def __init__(
        self,
        url: str,
        *,
        unsafe: bool = False,
        append_timeout_ms: int = APPEND_TIMEOUT_MS,
        connect_timeout_ms: int = CONNECT_TIMEOUT_MS,
        read_timeout_ms: int = READ_TIMEOUT_MS,
    ) -> None:
        """`unsafe` accepts any durability settings: acknowledged check-ins may then be lost with the server."""
        self._unsafe = unsafe
        self._lanes: dict[int, _Lane] = {}
        self._pool = BlockingConnectionPool.from_url(
            url,
            max_connections=READ_CONNECTIONS_MAX,
            timeout=read_timeout_ms / 1000,
            protocol=2,
            socket_timeout=read_timeout_ms / 1000,
            socket_connect_timeout=connect_timeout_ms / 1000,
            # For questions only (appends have their pipe): a pooled connection may have died since it was last used.
            retry=Retry(NoBackoff(), 1, supported_errors=(ConnectionLost,)),
        )
        self._connect_timeout_s = connect_timeout_ms / 1000
        self._client = Redis(connection_pool=self._pool)
        self._run_tail = self._client.register_script(_TAIL)
        self._run_trim = self._client.register_script(_TRIM)
        self._run_note = self._client.register_script(_NOTE)
        self._pipe = Pipe(self._dial, append_timeout_ms)

    def _lane(self, partition: int) -> _Lane:
        lane = self._lanes.get(partition)
        if lane is None:
            lane = self._lanes[partition] = _Lane(partition)
        return lane

    async def check_settings(self) -> None:
        connection = await _asked(self._dial())
        await connection.disconnect()

    async def tail(self, partition: int) -> Mark:
        lane = self._lane(partition)
        reply = await _asked(self._run_tail(keys=[lane.journal, lane.fence]))
        if reply[0] != b"OK":
            raise JournalCorrupt(f"partition {partition}: {reply[1].decode(errors='replace')}")
        return Mark(int(reply[1]), int(reply[2]), reply[3])

    async def tail_seqs(self, partitions: Sequence[int]) -> Sequence[int]:
        async with self._client.pipeline(transaction=False) as questions:
            for partition in partitions:
                questions.hget(self._lane(partition).fence, "seq")
            return [int(seq or 0) for seq in await _asked(questions.execute())]

    async def open(self, partition: int, expected_epoch: int | None, at_ms: int) -> Entry:
        for _ in range(OPEN_ATTEMPTS_MAX):
            tail = await self.tail(partition)
            if expected_epoch is not None and tail.epoch != expected_epoch:
                raise Fenced(f"partition {partition}: the tail's epoch is {tail.epoch}, not {expected_epoch}")
            entry = sealed(tail.checksum, tail.epoch + 1, tail.seq + 1, at_ms, EMPTY_PAYLOAD)
            try:
                # A run of its own: an open that fails holds up nothing, who tries again reads the tail first.
                await self._write(_OPEN, partition, entry, tail, _Run(entry.epoch))
            except _Raced:
                continue
            return entry
        raise JournalFull(f"partition {partition}: others wrote before each of {OPEN_ATTEMPTS_MAX} attempts to open it")

    async def append(self, partition: int, entry: Entry, previous: bytes) -> int:
        if len(entry.payload) > ENTRY_PAYLOAD_BYTES_MAX:
            raise ValueError(f"a payload of {len(entry.payload)} bytes is over {ENTRY_PAYLOAD_BYTES_MAX}")
        run = self._lane(partition).run_of(entry.epoch, entry.seq)
        if (failure := run.inherited()) is not None:
            raise failure
        return await self._write(_APPEND, partition, entry, Mark(entry.epoch, entry.seq - 1, previous), run)

    def _write(self, script: Script, partition: int, entry: Entry, previous: Mark, run: _Run) -> asyncio.Future[int]:
        # Nothing is awaited before the command is in the pipe: the order of calls is the order of commands.
        arguments = _arguments(self._lane(partition).keys, entry, previous)
        write = _Write(partition, script, arguments, run, entry.seq)
        self._pipe.submit(write)
        return write.reply

    async def read(self, partition: int, after: Mark, limit: int) -> Sequence[Entry]:
        lane = self._lane(partition)
        async with self._client.pipeline(transaction=True) as transaction:
            # One moment's view of both witnesses.
            transaction.xrange(lane.journal, min=f"({after.epoch}-{after.seq}", count=limit)
            transaction.hmget(lane.fence, "epoch", "seq", "checksum")
            rows, fence = await _asked(transaction.execute())
        entries = [_decoded(partition, entry_id, fields) for entry_id, fields in rows]
        if not entries:
            self._require_tail(partition, fence, after)
            return entries
        if entries[0].seq > after.seq + 1:
            await self._raise_gap(partition, after)
        self._require_contiguous(partition, after, entries)
        if len(entries) < limit:
            last = entries[-1]
            self._require_tail(partition, fence, Mark(last.epoch, last.seq, last.checksum))
        return entries

    def _require_tail(self, partition: int, fence: list[bytes | None], mark: Mark) -> None:
        """Nothing follows `mark` in the stream, so the fence must name it as the tail."""
        if fence == [None, None, None] and mark == Mark():
            return
        if fence != [b"%d" % mark.epoch, b"%d" % mark.seq, mark.checksum]:
            raise JournalCorrupt(f"partition {partition}: nothing follows {mark}, but the fence says {fence}")

    async def _raise_gap(self, partition: int, after: Mark) -> None:
        """Entries are missing after `after`. If they were trimmed, so was all before them; else there is a hole."""
        first = await _asked(self._client.xrange(self._lane(partition).journal, count=1))
        if first and _seq_of(first[0][0]) <= after.seq:
            raise JournalCorrupt(f"partition {partition}: entry {after.seq + 1} is missing, earlier ones are there")
        raise JournalGap(f"partition {partition}: entry {after.seq + 1} has been trimmed")

    def _require_contiguous(self, partition: int, after: Mark, entries: list[Entry]) -> None:
        # Ids order the entries by epoch; so epochs cannot fall here, and a seq that does not follow shows all else.
        for seq, entry in enumerate(entries, after.seq + 1):
            if entry.seq != seq:
                raise JournalCorrupt(
                    f"partition {partition}: seq {seq} should come, but {entry.epoch}-{entry.seq} does"
                )

    async def trim(self, partition: int, projected: Mark) -> None:
        if projected.seq == 0:
            return
        keys = [self._lane(partition).journal]
        reply = await _asked(self._run_trim(keys=keys, args=[projected.epoch, projected.seq, projected.checksum]))
        if reply[0] != b"OK":
            raise JournalCorrupt(f"partition {partition}: {reply[1].decode(errors='replace')}")

    async def note_projected(self, partition: int, projected_seq: int) -> None:
        await _asked(self._run_note(keys=[self._lane(partition).projected], args=[projected_seq]))

    async def projected_hint(self, partition: int) -> int:
        return int(await _asked(self._client.get(self._lane(partition).projected)) or 0)

    async def close(self) -> None:
        await self._pipe.close()
        await self._client.aclose()
        await self._pool.disconnect()

    async def _dial(self) -> AbstractConnection:
        """A new connection to a server that has shown its settings to be safe and that holds the writing scripts."""
        connection: AbstractConnection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await connection.connect()  # type: ignore[no-untyped-call]
                if not self._unsafe:
                    await _require_safe(connection)
                for script in (_APPEND, _OPEN):
                    await connection.send_command("SCRIPT", "LOAD", script.text)
                    await connection.read_response()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection


async def _require_safe(connection: AbstractConnection) -> None:
    wrong = []
    for name, required in REQUIRED_SETTINGS.items():
        await connection.send_command("CONFIG", "GET", name)
        try:
            found = await connection.read_response()
        except ResponseError as error:
            raise UnsafeJournal(f"the durability settings cannot be verified, CONFIG GET {name}: {error}") from error
        value = found[1].decode() if found else "unknown to this server"
        if value != required:
            wrong.append(f"{name} is {value}, must be {required}")
    if wrong:
        raise UnsafeJournal("; ".join(wrong))


async def _asked(question: Any) -> Any:
    """Awaits redis-py and says what its failures mean for questions that may be asked again as they are."""
    try:
        return await question
    except ResponseError as error:
        code = str(error).partition(" ")[0].encode()
        if code in _FULL_CODES:
            raise JournalFull(f"Redis refused: {error}") from error
        if code == b"WRONGTYPE":
            raise JournalCorrupt(f"a key of the journal is something else: {error}") from error
        raise OutcomeUnknown(f"Redis answered: {error}") from error
    except (RedisError, OSError) as error:
        raise OutcomeUnknown(f"Redis is away: {error}") from error


def _seq_of(entry_id: bytes) -> int:
    return int(entry_id.partition(b"-")[2])


def _decoded(partition: int, entry_id: bytes, fields: dict[bytes, bytes]) -> Entry:
    epoch, _, seq = entry_id.partition(b"-")
    try:
        version, at_ms = int(fields[b"v"]), int(fields[b"t"])
        return Entry(int(epoch), int(seq), at_ms, fields[b"c"], fields[b"f"], version)
    except (KeyError, ValueError) as error:
        raise JournalCorrupt(f"partition {partition}: entry {entry_id.decode()} cannot be read: {error!r}") from error
