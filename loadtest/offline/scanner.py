"""The scanner: asks the system while there is a network, judges by itself while there is none.

Rules:
1. Whether there is a network is not guessed: the system is asked while its socket is open, and has `ANSWER_TIMEOUT_S`.
   What it says counts. Without an answer the scanner judges, and notes the scan before it tells anybody.
2. Everything that it needs for that is fetched at the first start and kept on disk; while the socket is open revoked
   cards come with it, and the rest is fetched again every `REFRESH_S`. So it can be started without a network, too.
3. Times are those of the system: this machine's clock, corrected by the offset that was last measured on the socket.
4. The system hears of what was judged here in the background, as soon as it can be reached.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from actors.refusals import CREDENTIAL_INVALID
from actors.terms import Direction
from gateway.client import AsyncMasterVip, MasterVipError, OutcomeUnknown, RetryPolicy, ScanError, ScanSocket
from gateway.client.timing import REAL, Timing
from gateway.credentials import CredentialClaims
from gateway.limits import CREDENTIAL_CHARS_MAX
from loadtest.offline import judge
from loadtest.offline.disk import Disk
from loadtest.offline.kept import Kept
from loadtest.offline.known import Device, Known
from loadtest.offline.refresh import card_changes, paired, refresh
from loadtest.offline.scans import Scan, Scans
from loadtest.offline.upload import PAUSES, Outcome, Upload

ANSWER_TIMEOUT_S = 1.5
REFRESH_S = 60.0
REQUESTS = RetryPolicy(deadline_s=20.0)
SOCKET = RetryPolicy(first_pause_s=0.5, pause_s_max=5.0, deadline_s=10.0, try_timeout_s=5.0)

Json = dict[str, Any]


class NotPrepared(Exception):
    """The scanner has never reached the system, so it has no token or knows nothing to judge by."""


class Decision(msgspec.Struct, frozen=True):
    """What the door does. `is_alone`: the scanner has judged by itself; else `verdict` is the system's. `is_again`:
    this is what was decided when the scan id came for the first time."""

    scan_id: str
    is_admitted: bool
    reason: str
    is_alone: bool
    is_again: bool = False
    verdict: Json | None = None


def _ignore(*_: object) -> None:
    """For whoever does not want to know."""


class OfflineScanner:
    """`async with OfflineScanner(url, directory, pairing_code=code) as scanner: await scanner.scan(credential)`.

    A device that was paired before, with this directory, needs neither code nor `token`. `on_answer` and `on_trouble`
    are those of `Upload`; the second is called about the socket, too.
    """

    def __init__(
        self,
        url: str,
        directory: Path,
        *,
        event_id: str | None = None,
        token: str | None = None,
        pairing_code: str | None = None,
        on_answer: Callable[[Scan, Outcome], None] = _ignore,
        on_trouble: Callable[[str], None] = _ignore,
        timing: Timing = REAL,
    ) -> None:
        self._url = url
        self._event_id = event_id
        self._token = token
        self._pairing_code = pairing_code
        self._on_answer = on_answer
        self._on_trouble = on_trouble
        self._timing = timing
        self._disk = Disk(directory)
        self.kept = Kept(self._disk)
        self.scans = Scans(self._disk)
        self._socket: ScanSocket | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._is_prepared = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Ready to judge. The first time ever this needs the system, and raises `MasterVipError` without it."""
        self._root = AsyncMasterVip(self._url, retry=REQUESTS, timing=self._timing)
        try:
            token = self._token or self.kept.token
            if not token and self._pairing_code is not None:
                token = await paired(self._root, self.kept, self._pairing_code)
            if not token:
                raise NotPrepared("a scanner has to be paired: it needs a code or a token")
            if token != self.kept.token:
                self.kept.keep_token(token)
            self._vip = self._root.acting_as(token)
            if self.kept.known is None:
                await refresh(self._vip, self.kept, self._event_id)
        except BaseException:
            await self._root.aclose()
            self._disk.close()
            raise
        self._upload = Upload(self._vip, self.scans, self._timing, self._on_answer, self._on_trouble)
        self._tasks = [asyncio.create_task(self._stay_connected()), asyncio.create_task(self._upload.run())]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops. What waits for the system waits on disk."""
        for task in self._tasks:
            task.cancel()
        ends = await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._root.aclose()
        self._disk.close()
        for end in ends:
            if isinstance(end, Exception):
                raise end

    @property
    def is_online(self) -> bool:
        """Whether the system would be asked now."""
        return self._socket is not None and self._socket.is_open

    @property
    def known(self) -> Known:
        """What the scanner judges by. Raises `NotPrepared`."""
        if self.kept.known is None:
            raise NotPrepared("the scanner has to reach the system once before it can judge")
        return self.kept.known

    @property
    def device(self) -> Device:
        """Who the scanner is. Raises `NotPrepared`."""
        if self.kept.device is None:
            raise NotPrepared("the scanner has to reach the system once before it knows who it is")
        return self.kept.device

    async def scan(self, credential: str, *, direction: Direction = "entry", scan_id: str | None = None) -> Decision:
        """What the door does. Raises `QueueFull`: it stays closed, and so does every door after."""
        scan_id = scan_id or self._vip.new_id()
        before = self.scans.find(scan_id)
        if before is not None:
            return Decision(scan_id, not before.reason, before.reason, before.is_alone, is_again=True)
        scan = self._begun(credential, direction, scan_id)
        if self.is_online and len(credential) <= CREDENTIAL_CHARS_MAX:
            answer = await self._asked(scan)
            if isinstance(answer, Decision):
                return answer
            scan = answer
        return self._judged(scan)

    async def wait_prepared(self) -> None:
        """Until all that it needs to go on alone is fresh and on disk, the system's clock included."""
        await self._is_prepared.wait()

    async def drained(self) -> None:
        """Waits until the system has answered everything."""
        await self._upload.wait_empty()

    # --- one scan ---

    def _begun(self, credential: str, direction: Direction, scan_id: str) -> Scan:
        """The scan as it is before anybody has judged it."""
        known, device, at_ms = self.known, self.device, self._now_ms()
        claims = self._claims(credential)
        return Scan(
            scan_id,
            known.event.id,
            credential,
            claims.card_id if claims is not None else "",
            device.gate_id,
            direction,
            at_ms,
            "",
            judge.session_of(known.event, at_ms),
            judge.zone_of(known.event, device.gate_id),
        )

    async def _asked(self, scan: Scan) -> Decision | Scan:
        """The system's decision; or the scan to be judged here, which tells whether the system may have judged it."""
        assert self._socket is not None, "the socket is open"
        try:
            verdict = await self._socket.scan(
                scan.credential,
                direction=scan.direction,
                gate_id=scan.gate_id or None,
                scan_id=scan.scan_id,
                scanned_at=self._timing.wall_ms(),
                timeout_s=ANSWER_TIMEOUT_S,
            )
        except OutcomeUnknown as unknown:
            # It was sent with a time of its own, and is the same request only with that.
            sent = unknown.item or {}
            return msgspec.structs.replace(scan, was_asked=True, scanned_at_ms=sent["scanned_at"])
        except ScanError as error:
            self._on_trouble(str(error))
            return scan
        except MasterVipError:
            return scan
        reason = verdict["reason"] or ""
        card_id = verdict["card_id"] or scan.card_id
        self.scans.remember(msgspec.structs.replace(scan, reason=reason, card_id=card_id, is_alone=False))
        return Decision(scan.scan_id, not reason, reason, False, verdict=verdict)

    def _judged(self, scan: Scan) -> Decision:
        """Decides, and notes it before anybody hears of it."""
        claims = self._claims(scan.credential)
        seen = self.scans.seen(scan.event_id, scan.card_id, scan.session_id)
        presented = judge.Presented(claims, scan.direction, scan.gate_id, scan.scanned_at_ms)
        scan = msgspec.structs.replace(scan, reason=judge.reason_against(self.known, presented, seen))
        if scan.reason == CREDENTIAL_INVALID and claims is None:
            # Nobody's card: there is nobody to tell the system about, and it would not take it.
            self.scans.remember(scan)
        else:
            self.scans.note(scan)
            self._upload.wake()
        return Decision(scan.scan_id, not scan.reason, scan.reason, True)

    def _claims(self, credential: str) -> CredentialClaims | None:
        return self.known.keys.read(credential)

    def _now_ms(self) -> int:
        """Now, by the system's clock (rule 3)."""
        if self._socket is not None and self._socket.clock_is_known:
            self._keep_clock(self._socket)
        return self._timing.wall_ms() + self.known.clock_ahead_ms

    def _keep_clock(self, socket: ScanSocket) -> None:
        self.kept.keep_clock(round(socket.clock_offset_ms))

    # --- in the background ---

    async def _stay_connected(self) -> None:
        failed = 0
        while True:
            try:
                await refresh(self._vip, self.kept, self._event_id)
                async with self._vip.scan_socket(
                    self.device.event_id, on_revoked=self._take, resume=self.known.cursor or None, retry=SOCKET
                ) as self._socket:
                    failed = 0
                    await self._keep_fresh(self._socket)
            except (MasterVipError, msgspec.ValidationError) as error:
                self._on_trouble(str(error))
            finally:
                self._socket = None
            failed += 1
            await self._timing.sleep(PAUSES.pause_s(failed, uniform=self._timing.uniform))

    async def _keep_fresh(self, socket: ScanSocket) -> None:
        """Until the socket is over for good, which is told by an exception; it comes back from all else by itself."""
        await socket.wait_clock()
        self._keep_clock(socket)
        self._is_prepared.set()
        while True:
            try:
                async with asyncio.timeout(REFRESH_S):
                    await socket.wait_closed()
            except TimeoutError:
                await self._refreshed_if_possible()

    async def _refreshed_if_possible(self) -> None:
        try:
            await refresh(self._vip, self.kept, self._event_id, with_cards=False)
        except MasterVipError as error:
            self._on_trouble(str(error))

    def _take(self, frame: Json) -> None:
        """Revoked cards came with the socket."""
        self.kept.keep_changes(card_changes(frame))
