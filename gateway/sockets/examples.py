"""One example of each frame, for the documentation: made of the types themselves, so that none can be wrong."""

from __future__ import annotations

from typing import Any, Final

from gateway.credentials import PREFIX
from gateway.render import AttendanceCounts, FirstInFrame, Member, PointsAwarded, VerdictFrame
from gateway.sockets import codes, limits, told, wire

_CREDENTIAL: Final = f"{PREFIX}6BFOXN…"
_NOW_MS: Final = 1_795_341_600_123
_EVENT: Final = "evt_gala"
_TOPIC: Final = f"event:{_EVENT}"
_LAN: Final = "card_lan"
_BOARD: Final = told.BoardData("points", "all", 1, [told.RowTold(1, _LAN, told.NameTold("Lan"), 260)])
_CARD: Final = told.CardData(_LAN, told.MemberTold("mem_lan", "Lan"), "gold", "active", 260, 310, 12, 4711)
_GATE: Final = told.GateTold("gate_north", "North", True, None)
_VERDICT: Final = VerdictFrame(
    *("scan-1", "scan-1", "refused", "already_admitted", False, _EVENT, _LAN, Member("mem_lan", "Lan"), "gold"),
    *(
        _NOW_MS,
        AttendanceCounts(12, 15, 500),
        PointsAwarded(0, 260),
        FirstInFrame(_NOW_MS - 60_000, "gate_north", None),
    ),
)
_ERROR: Final = told.ErrorFrame(
    codes.TOO_MANY_IN_FLIGHT, "Too many scans wait for their verdicts.", "scan-2", retry_after_ms=limits.RETRY_AFTER_MS
)
_EVENT_TOLD: Final = told.EventTold(
    *(_EVENT, "Gala", "open", "Asia/Ho_Chi_Minh", None, None, "after_exit", 500, 12, 15, 1, [_GATE], [], []),
    *(told.AdmissionTold([], False, None), []),
)
_SCAN_TOLD: Final = told.ScanTold(
    *(
        "scan-3",
        _NOW_MS,
        "admitted",
        None,
        "entry",
        _LAN,
        told.NameTold("Lan"),
        "gold",
        "gate_south",
        "South",
        "dev_2",
        0,
    ),
    *(
        "already_admitted",
        False,
        None,
        _NOW_MS - 5_000,
        told.FirstTold(_NOW_MS - 60_000, "gate_north", "North", "dev_1"),
    ),
)
_CHANGE: Final = told.ConflictChangeTold(_LAN, "scan-3", "scan-1", "already_admitted", False)
_FEED: Final = told.EventData(_EVENT, "Gala", 12, 15, 1, 500, 4711, [_SCAN_TOLD], 0, [_CHANGE], False)
_WELCOME: Final = ("ses_1", _NOW_MS, None, limits.FRAME_BYTES_MAX)
_SCAN: Final = wire.ScanItem("scan-1", _CREDENTIAL, "entry", "gate_north")

EXAMPLES: Final[dict[Any, Any]] = {
    wire.Hello: wire.Hello("mvd_…", None, _EVENT, "gate_north", "", _NOW_MS),
    wire.Scan: wire.Scan("scan-1", _CREDENTIAL, "entry", "gate_north"),
    wire.Scans: wire.Scans([_SCAN, wire.ScanItem("scan-2", _CREDENTIAL, scanned_at=_NOW_MS - 60_000, offline=True)]),
    wire.Annul: wire.Annul("annul-1", "scan-1"),
    wire.Ping: wire.Ping(1),
    wire.Pong: wire.Pong(7, _NOW_MS),
    wire.Subscribe: wire.Subscribe(_TOPIC, wire.Since(3, 41)),
    wire.Unsubscribe: wire.Unsubscribe(_TOPIC),
    told.ScanWelcome: told.ScanWelcome(*_WELCOME, _EVENT_TOLD, limits.SCANS_IN_FLIGHT_MAX, ""),
    told.LiveWelcome: told.LiveWelcome(*_WELCOME, limits.SUBSCRIPTIONS_PER_SOCKET_MAX),
    VerdictFrame: _VERDICT,
    told.Verdicts: told.Verdicts([_VERDICT, _ERROR]),
    told.Annulled: told.Annulled("annul-1", "scan-1", _LAN, _NOW_MS, 11, 14, False),
    told.Attendance: told.Attendance(_EVENT, 12, 15, 500, 4711),
    told.Revoked: told.Revoked([_LAN], [], "4711", {_LAN: 2}, True),
    told.PingTold: told.PingTold(7),
    told.PongTold: told.PongTold(1, _NOW_MS, -250),
    told.Reconnect: told.Reconnect(1_200),
    told.ErrorFrame: _ERROR,
    told.Snapshot[told.EventData]: told.Snapshot(_TOPIC, 3, 41, _FEED),
    told.Snapshot[told.BoardData]: told.Snapshot("leaderboard:points", 3, 5, _BOARD),
    told.Snapshot[told.CardData]: told.Snapshot(f"card:{_LAN}", 3, 2, _CARD, False),
    told.Update[told.EventData]: told.Update(_TOPIC, 42, _FEED),
    told.Update[told.BoardData]: told.Update("leaderboard:points", 6, _BOARD),
    told.Update[told.CardData]: told.Update(f"card:{_LAN}", 3, _CARD),
}
