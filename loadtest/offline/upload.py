"""Telling the system what was judged without it.

Rules:
1. Scans go up in their order, a batch at a time, each under its own id. The system records an id once, so a batch that
   was cut off, or whose answer got lost in a crash, is simply sent again.
2. Times were corrected when the scans were made (`scans.Scan`), so a batch does not tell this machine's clock.
3. Whatever goes wrong with a batch leaves its scans in the queue; after ever longer pauses it is tried again. One scan
   that the system will never take (`problem`) is put aside with what was said of it, and holds up no other.
4. Where the system was asked and its answer did not come, both may have judged: the system under the same id, if the
   question arrived (`id_reused`). Then that verdict is fetched by asking once more, and set right where it is not what
   happened at the door: somebody whom the door let in all the same is told of under another id, and an admission of
   somebody whom the door refused is annulled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from gateway.client import ApiError, AsyncClient, MasterVipError, RetryPolicy
from gateway.client.http import RETRY_STATUSES
from gateway.client.timing import Timing
from gateway.ids import derived_id
from gateway.render import rfc3339
from loadtest.offline.scans import Scan, Scans

BATCH_SCANS_MAX = 200
PAUSES = RetryPolicy(first_pause_s=0.5, pause_s_max=15.0)

Outcome = dict[str, Any]


class Upload:
    """Empties the queue. `on_answer` is called with each scan and what the system said of it: a verdict, with
    `conflict` where the person should not have been let in, or `{"scan_id", "problem"}`. `on_trouble` is called with
    what went wrong each time that nothing could be told."""

    def __init__(
        self,
        vip: AsyncClient,
        scans: Scans,
        timing: Timing,
        on_answer: Callable[[Scan, Outcome], None],
        on_trouble: Callable[[str], None],
    ) -> None:
        self._vip = vip
        self._scans = scans
        self._timing = timing
        self._on_answer = on_answer
        self._on_trouble = on_trouble
        self._has_work = asyncio.Event()
        self._is_empty = asyncio.Event()

    def wake(self) -> None:
        """A scan was noted."""
        self._is_empty.clear()
        self._has_work.set()

    async def wait_empty(self) -> None:
        """Until the system has answered all."""
        await self._is_empty.wait()

    async def run(self) -> None:
        """For ever."""
        failed = 0
        while True:
            self._has_work.clear()
            while self._scans.waiting_count:
                trouble = await self._tried()
                if not trouble:
                    failed = 0
                    continue
                failed += 1
                self._on_trouble(trouble)
                await self._timing.sleep(PAUSES.pause_s(failed, uniform=self._timing.uniform))
            self._is_empty.set()
            await self._has_work.wait()

    async def batch(self) -> int:
        """Sends the oldest that wait; how many of them the system has answered. Raises `MasterVipError`."""
        scans = self._scans.waiting(BATCH_SCANS_MAX)
        told = await self._vip.checkins.many([_item(scan) for scan in scans])
        answered: list[tuple[Scan, Outcome]] = []
        for scan, outcome in zip(scans, told, strict=True):
            code = outcome.get("problem", {}).get("code")
            if code == "id_reused" and scan.was_asked:
                outcome = await self._reconciled(scan)
            elif code is not None and _is_for_later(outcome):
                continue
            answered.append((scan, outcome))
        if answered:
            self._scans.answered(answered)
        for scan, outcome in answered:
            self._on_answer(scan, outcome)
        return len(answered)

    async def _tried(self) -> str:
        """One batch; what went wrong, "" if nothing did."""
        try:
            return "" if await self.batch() else "the system is busy"
        except MasterVipError as error:
            return str(error)

    async def _reconciled(self, scan: Scan) -> Outcome:
        """Rule 4."""
        verdict = await self._vip.checkins.one(
            scan.event_id,
            scan.credential,
            gate_id=scan.gate_id or None,
            direction=scan.direction,
            scan_id=scan.scan_id,
            scanned_at=rfc3339(scan.scanned_at_ms),
        )
        was_let_in, is_let_in = not scan.reason, verdict["verdict"] == "admitted"
        if was_let_in and not is_let_in:
            told = await self._vip.checkins.many([_item(scan) | {"scan_id": derived_id("scan", scan.scan_id)}])
            return told[0]
        if is_let_in and not was_let_in and scan.direction == "entry":
            try:
                return await self._vip.events.annul(scan.event_id, scan.scan_id) | {"annulled": True}
            except ApiError as error:
                return {"scan_id": scan.scan_id, "problem": {"status": error.status, "code": error.code}}
        return verdict


def _item(scan: Scan) -> dict[str, Any]:
    return {
        "event_id": scan.event_id,
        "credential": scan.credential,
        "gate_id": scan.gate_id or None,
        "direction": scan.direction,
        "scan_id": scan.scan_id,
        "scanned_at": rfc3339(scan.scanned_at_ms),
        "offline": True,
        "refused": scan.reason or None,
    }


def _is_for_later(outcome: Outcome) -> bool:
    problem = outcome["problem"]
    return problem["status"] in RETRY_STATUSES or problem["code"] == "in_progress"
