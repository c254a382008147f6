"""A scanner at a door, with or without a network.

    python -m loadtest.offline_scanner --url http://127.0.0.1:8080 --pair CODE --scans-from stdin --state DIR

Rules:
1. A line is what the scanner read, or JSON: {"credential", "direction", "scan_id"}. Each is answered by a line of JSON
   on stdout, once the door may open or must stay closed: {"scan_id", "verdict", "reason", "alone"}. Lines that come
   again with a scan id get the answer that was given.
2. stderr tells what is going on: scans that wait, what the system said of those that it heard of later, conflicts.
3. At the end of the input it waits up to --drain-seconds for the system to hear of everything. Exit status: 0 it has,
   1 something waits on disk (start it again with the same --state), 2 it could not begin.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from actors.terms import Direction
from gateway.client import MasterVipError
from loadtest.offline.disk import DirectoryInUse
from loadtest.offline.scanner import Decision, NotPrepared, OfflineScanner
from loadtest.offline.scans import Scan

TOLD_EVERY = 100


class Line(msgspec.Struct, frozen=True):
    """One scan of the input."""

    credential: str
    direction: Direction = "entry"
    scan_id: str | None = None


class Progress:
    """What stderr tells."""

    def __init__(self) -> None:
        self.uploaded = 0
        self.conflicts = 0
        self._trouble = ""

    def answered(self, scan: Scan, outcome: dict[str, Any]) -> None:
        """See `loadtest.offline.upload.Upload`."""
        self.uploaded += 1
        self._trouble = ""
        conflict = outcome.get("conflict")
        if conflict is not None:
            self.conflicts += 1
            first = outcome.get("first") or {}
            other = f"; first at {first['at']}, gate {first['gate_id']}" if first else ""
            say(f"conflict {conflict}: card {scan.card_id}, gate {scan.gate_id or '-'}, scan {scan.scan_id}{other}")
        elif "problem" in outcome:
            say(f"not taken: scan {scan.scan_id}: {outcome['problem']['code']}")
        if self.uploaded % TOLD_EVERY == 0:
            say(f"uploaded {self.uploaded}")

    def trouble(self, what: str) -> None:
        """The same trouble is told once."""
        if what != self._trouble:
            self._trouble = what
            say(what)


def say(text: str) -> None:
    """Progress goes to stderr."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


async def lines_of(source: str) -> AsyncIterator[Line]:
    """The scans of a file, or of stdin as they come."""
    with sys.stdin if source == "stdin" else open(source, encoding="utf-8") as file:  # noqa: ASYNC230 — read in a thread
        while text := await asyncio.to_thread(file.readline):
            text = text.strip()
            if not text.startswith("{"):
                if text:
                    yield Line(text)
                continue
            try:
                line = msgspec.json.decode(text, type=Line)
            except msgspec.MsgspecError as error:
                say(f"not a scan: {error}")
            else:
                yield line


async def run(options: argparse.Namespace) -> int:
    """Scans until the input ends; the exit status."""
    progress = Progress()
    async with OfflineScanner(
        options.url,
        options.state,
        event_id=options.event,
        token=options.token,
        pairing_code=options.pair,
        on_answer=progress.answered,
        on_trouble=progress.trouble,
    ) as scanner:
        say(f"ready: {scanner.known.event.name}, {scanner.scans.waiting_count} scans wait for the system")
        async for line in lines_of(options.scans_from):
            print_decision(await scanner.scan(line.credential, direction=line.direction, scan_id=line.scan_id))
        with suppress(TimeoutError):
            async with asyncio.timeout(options.drain_seconds):
                await scanner.drained()
        waiting = scanner.scans.waiting_count
        say(f"uploaded {progress.uploaded}, conflicts {progress.conflicts}, waiting {waiting}")
        return 1 if waiting else 0


def print_decision(decision: Decision) -> None:
    """The line that answers a scan."""
    shown = {
        "scan_id": decision.scan_id,
        "verdict": "admitted" if decision.is_admitted else "refused",
        "reason": decision.reason or None,
        "alone": decision.is_alone,
    }
    print(msgspec.json.encode(shown).decode(), flush=True)  # noqa: T201


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True, help="where the system is")
    parser.add_argument("--state", type=Path, required=True, help="the scanner's own directory")
    parser.add_argument("--pair", metavar="CODE", help="the pairing code, at the first start")
    parser.add_argument("--token", help="a device token, in place of a code")
    parser.add_argument("--event", help="the event's id, for a device of the whole organisation")
    parser.add_argument("--scans-from", default="stdin", metavar="stdin|FILE")
    parser.add_argument("--drain-seconds", type=float, default=30.0)
    try:
        return asyncio.run(run(parser.parse_args()))
    except (NotPrepared, DirectoryInUse, MasterVipError) as error:
        say(str(error))
        return 2


if __name__ == "__main__":
    sys.exit(main())
