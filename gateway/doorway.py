"""One scan on its way to the engine, the same for REST and for sockets.

Rules:
1. A credential whose signature fails, or that is another tenant's, never reaches the engine: it is answered
   `credential_invalid` here, counted, and logged per device at most once a second, so that forged codes cannot fill the
   journal or the log. The same goes for a rotating one whose code was not of the ten minutes before the scan (by
   `scanned_at`, if it is told).
2. A device that is bound to an event scans for that event and no other.
3. The caller's tenant is the command's tenant, whatever the request says.
4. Every scan counts against the limits of its caller and organisation (`gateway.limiter`), whatever becomes of it. One
   that finds them used up is answered `rate_limited` before anything is looked at, and had no effect.
5. A scan that names no gate is one of the gate that the device stands at. That is not part of what was asked: the same
   scan sent again after the device went to another gate is the same request.
6. A scan asks about a card, whichever of its codes was shown: the same scan sent again with a newer code is the same
   request. When a code holds is told to the engine, which judges it.
7. A tag's tap says which tag it is and not whose card: the engine knows that, and whether the tap's counter is new. It
   is the same request as another tap of the same tag.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import structlog

from actors.commands import CheckIn, check_in_fingerprint, fingerprint, tapped
from actors.door_commands import AnnulScan
from actors.replies import Failed, Reply
from actors.terms import Direction
from gateway import limits
from gateway.admin_log import actor_of
from gateway.credentials import CredentialBook
from gateway.identity.callers import Caller
from gateway.limiter import LIMITED, Limiter
from gateway.ports import Engine
from gateway.render import refused_at_edge

ACTION = "checkins.create"
FORCE = "checkins.force"
WRONG_EVENT = Failed("wrong_event", "the device is bound to another event")
NO_SCANNING = Failed("forbidden", "these credentials may not scan")
NO_FORCE = Failed("forbidden", "these credentials may not force an admission")
_log = structlog.get_logger(__name__)


class Manner(msgspec.Struct, frozen=True, gc=False):
    """How a scan came about, where not at an ordinary door: `is_offline` and `offline_reason` as in
    `actors.commands.CheckIn`; `clock_ahead_ms` is how far the scanner's clock was ahead when it told `scanned_at`;
    `is_forced`: a supervisor wants the person in."""

    is_offline: bool = False
    offline_reason: str = ""
    clock_ahead_ms: int = 0
    is_forced: bool = False


ORDINARY = Manner()


class Doorway:
    """Takes scans in. `clock_ms` gives milliseconds since 1970."""

    def __init__(
        self, engine: Engine, credentials: CredentialBook, clock_ms: Callable[[], int], limiter: Limiter
    ) -> None:
        self._engine = engine
        self._admit = limiter.admit
        self._credentials = credentials
        self._clock_ms = clock_ms
        self._forged_logged: dict[str, tuple[int, int]] = {}
        self.forged_count = 0

    def check_in(
        self,
        caller: Caller,
        request_id: str,
        event_id: str,
        credential: str,
        gate_id: str,
        direction: Direction,
        scanned_at_ms: int,
        on_reply: Callable[[Reply], None],
        manner: Manner = ORDINARY,
    ) -> None:
        """Calls `on_reply` once, with `Done(ScanJudged)` or `Failed`. Ids and `request_id` have been checked by the
        caller."""
        refusal = self._refusal(caller, event_id)
        if refusal is not None:
            on_reply(refusal)
            return
        if manner.is_forced and caller.reach(FORCE) is None:
            on_reply(NO_FORCE)
            return
        # In our time; what was asked stays what it was, so that a retry is the same request.
        seen_ms = scanned_at_ms - manner.clock_ahead_ms if scanned_at_ms else 0
        presented = self._credentials.read(credential, seen_ms or self._clock_ms())
        if presented is None or presented.tenant_id != caller.tenant_id:
            self._note_forged(caller)
            on_reply(
                refused_at_edge(
                    caller.tenant_id, request_id, event_id, gate_id, caller.device_id, direction, self._clock_ms()
                )
            )
            return
        self._engine.submit(
            CheckIn(
                caller.tenant_id,
                request_id,
                check_in_fingerprint(
                    event_id,
                    presented.card_id or tapped(presented.tag_uid),
                    gate_id,
                    direction,
                    scanned_at_ms,
                    manner.is_offline,
                    manner.offline_reason,
                    manner.is_forced,
                ),
                event_id,
                presented.card_id,
                gate_id or caller.gate_id,
                caller.device_id,
                direction,
                seen_ms,
                presented.valid_from_ms,
                presented.valid_until_ms,
                manner.is_offline,
                manner.offline_reason,
                actor_of(caller) if manner.is_forced else "",
                serial=presented.serial,
                tag_uid=presented.tag_uid,
                tag_counter=presented.tag_counter,
            ),
            on_reply,
        )

    def annul(
        self, caller: Caller, request_id: str, event_id: str, scan_id: str, on_reply: Callable[[Reply], None]
    ) -> None:
        """Takes back an admission, a device its own: calls `on_reply` once, with `Done` or `Failed`. Counts as a scan
        (rule 4)."""
        refusal = self._refusal(caller, event_id)
        if refusal is not None:
            on_reply(refusal)
            return
        command = AnnulScan(caller.tenant_id, request_id, b"", event_id, scan_id, caller.device_id)
        self._engine.submit(msgspec.structs.replace(command, fingerprint=fingerprint(command)), on_reply)

    def _refusal(self, caller: Caller, event_id: str) -> Failed | None:
        """Rules 2 and 4."""
        wait_ms = self._admit(caller)
        if wait_ms:
            return Failed(LIMITED, "too many scans", wait_ms)
        if caller.reach(ACTION) is None:
            return NO_SCANNING if caller.refusal == NO_SCANNING.code else Failed(caller.refusal, "")
        return WRONG_EVENT if caller.event_id and caller.event_id != event_id else None

    def _note_forged(self, caller: Caller) -> None:
        """Rule 1: counts, and logs the first of each second per device with how many came since the line before."""
        self.forged_count += 1
        who = caller.device_id or caller.key_id
        now = self._clock_ms()
        logged_at, unlogged = self._forged_logged.get(who, (0, 0))
        if now - logged_at < limits.FORGED_LOG_INTERVAL_MS:
            self._forged_logged[who] = (logged_at, unlogged + 1)
            return
        if len(self._forged_logged) >= limits.FORGED_LOG_DEVICES_MAX:
            self._forged_logged.clear()
        self._forged_logged[who] = (now, 0)
        _log.warning("credential invalid", tenant=caller.tenant_id, holder=who, count=unlogged + 1)
