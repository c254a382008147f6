"""Events with gates, counts and scan log; scanner devices; check-ins; leaderboards. Answers are the API's JSON, see
/docs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from gateway.client.batches import in_batches
from gateway.client.caller import Noun, Param, Tagged, Time, changed, given, path
from gateway.client.errors import Json

EVENTS = "/v1/events"
DEVICES = "/v1/devices"
CHECKINS = "/v1/checkins"
LEADERBOARDS = "/v1/leaderboards"


class Events(Noun):
    """Events of the caller's organisation."""

    async def create(
        self,
        name: str,
        capacity: int,
        *,
        gates: Sequence[str] = (),
        time_zone: str | None = None,
        doors_open: Time = None,
        doors_close: Time = None,
        reentry: str | None = None,
        strict_exit: bool | None = None,
        admission: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Json:
        """A new one; `gates` are their names, `admission` says who is let in: `tiers`, `list_only`, `condition` (CEL),
        `message`."""
        body = given(
            name=name,
            capacity=capacity,
            gates=[{"name": gate} for gate in gates],
            time_zone=time_zone,
            doors_open=doors_open,
            doors_close=doors_close,
            reentry=reentry,
            strict_exit=strict_exit,
            admission=admission,
        )
        return await self._post(EVENTS, body, idempotency_key)

    async def get(self, event_id: str) -> Tagged:
        """An event."""
        return await self._get(path(EVENTS, event_id))

    def all(self) -> AsyncIterator[Json]:
        """All of them, oldest first."""
        return self._caller.items(EVENTS)

    async def change(
        self, event_id: str, /, *, if_match: str | None = None, idempotency_key: str | None = None, **changes: Any
    ) -> Tagged:
        """Changes what is given: the fields of `create` but `gates`, and `state`. `doors_open`, `doors_close`,
        `exit_all_at` and `admission` may be None: none any more."""
        return await self._patch(path(EVENTS, event_id), changed(**changes), idempotency_key, if_match)

    async def add_gate(self, event_id: str, name: str, *, idempotency_key: str | None = None) -> Json:
        """A new gate, open."""
        return await self._post(path(EVENTS, event_id, "gates"), {"name": name}, idempotency_key)

    async def change_gate(
        self,
        event_id: str,
        gate_id: str,
        *,
        name: str | None = None,
        open: bool | None = None,
        if_match: str | None = None,
        idempotency_key: str | None = None,
    ) -> Tagged:
        """Opens, closes or renames a gate."""
        address = path(EVENTS, event_id, "gates", gate_id)
        return await self._patch(address, given(name=name, open=open), idempotency_key, if_match)

    async def attendance(self, event_id: str) -> Json:
        """The live counts."""
        return await self._get(path(EVENTS, event_id, "attendance"))

    async def annul(self, event_id: str, scan_id: str, *, idempotency_key: str | None = None) -> Json:
        """Undoes the admission that a scan led to."""
        return await self._post(path(EVENTS, event_id, "checkins", scan_id, "annul"), None, idempotency_key)

    async def exit_all(self, event_id: str, *, idempotency_key: str | None = None) -> Json:
        """Everybody has left."""
        return await self._post(path(EVENTS, event_id, "exit-all"), None, idempotency_key)

    async def change_admission_list(
        self,
        event_id: str,
        *,
        add: Sequence[str] = (),
        remove: Sequence[str] = (),
        idempotency_key: str | None = None,
    ) -> Json:
        """Puts cards on the list and takes others off."""
        body = {"add": list(add), "remove": list(remove)}
        return await self._post(path(EVENTS, event_id, "admission-list"), body, idempotency_key)

    def admission_list(self, event_id: str) -> AsyncIterator[Any]:
        """The ids of the cards on the list."""
        return self._caller.items(path(EVENTS, event_id, "admission-list"))

    async def answer(
        self, event_id: str, card_id: str, answers: Mapping[str, str], *, idempotency_key: str | None = None
    ) -> Json:
        """A person's answers, by question."""
        given_answers = [{"question_id": question, "answer": answer} for question, answer in answers.items()]
        body = {"card_id": card_id, "answers": given_answers}
        return await self._post(path(EVENTS, event_id, "answers"), body, idempotency_key)

    def conflicts(self, event_id: str) -> AsyncIterator[Json]:
        """Where scans of scanners without a network contradict others."""
        return self._caller.items(path(EVENTS, event_id, "conflicts"))

    def scan_log(self, event_id: str, /, **filters: Param) -> AsyncIterator[Json]:
        """Its scans, newest first. Filters: `verdict`, `reason` (or several), `card_id`, `member_id`, `gate_id`,
        `device_id`, `direction`; `since` ≤ time of the verdict < `until`."""
        return self._caller.items(path(EVENTS, event_id, "checkins"), **_filters(filters))

    async def scan_log_csv(self, event_id: str, /, **filters: Param) -> AsyncIterator[bytes]:
        """The same as CSV, piece by piece. Raises `Unavailable` when it breaks off."""
        address = path(EVENTS, event_id, "checkins")
        async with self._caller.stream(address, "text/csv", _filters(filters)) as pieces:
            async for piece in pieces:
                yield piece

    async def export_scans(self, event_id: str, /, **filters: Param) -> AsyncIterator[Json]:
        """The same as `scan_log` in one answer of any length, read as it is taken. Raises `Unavailable` when it breaks
        off, and is `rate_limited` while the organisation has another export under way."""
        address = path(EVENTS, event_id, "checkins")
        async with aclosing(self._caller.lines(address, _filters(filters))) as lines:
            async for line in lines:
                yield line

    async def statistics(
        self, event_id: str, *, since: Time = None, until: Time = None, step: str | None = None
    ) -> Json:
        """Its scans counted by gate and by `step` (`minute`, `hour`, `day`), of the span `since` ≤ time < `until` or
        without one of the day of the newest scan."""
        span = _filters({"since": since, "until": until})
        return await self._get(path(EVENTS, event_id, "statistics"), step=step, **span)


def _filters(given: Mapping[str, Param]) -> dict[str, Param]:
    """The parameters: `from` is no name for one in Python."""
    return {"from" if name == "since" else name: value for name, value in given.items()}


class Devices(Noun):
    """Scanner devices."""

    async def add(
        self,
        event_id: str | None = None,
        *,
        name: str | None = None,
        gate_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> Json:
        """A new one, bound to an event or without one to the whole organisation; `pairing_code` is to be entered on
        it."""
        address = DEVICES if event_id is None else path(EVENTS, event_id, "devices")
        return await self._post(address, given(name=name, gate_id=gate_id), idempotency_key)

    async def pair(self, code: str, *, idempotency_key: str | None = None) -> Json:
        """The device's `token` for its code, which works once: keep the Idempotency-Key to ask again."""
        return await self._post(DEVICES + "/pair", {"code": code}, idempotency_key)

    async def pair_again(self, device_id: str, *, idempotency_key: str | None = None) -> Json:
        """A new `pairing_code` for a device there is; once it is used, the old token is no longer good."""
        return await self._post(path(DEVICES, device_id, "pairing-code"), None, idempotency_key)

    async def get(self, device_id: str) -> Tagged:
        """A device, also one that was revoked."""
        return await self._get(path(DEVICES, device_id))

    def all(self, /, **filters: Param) -> AsyncIterator[Json]:
        """Those that were paired. Filters: `event_id`, `revoked`."""
        return self._caller.items(DEVICES, **filters)

    async def change(
        self, device_id: str, /, *, if_match: str | None = None, idempotency_key: str | None = None, **changes: Any
    ) -> Tagged:
        """Changes what is given: `name`, `event_id` (None: the whole organisation), `gate_id` (None: no gate)."""
        return await self._patch(path(DEVICES, device_id), changes, idempotency_key, if_match)

    async def itself(self) -> Tagged:
        """The device whose token this is, with the `gates` that it may choose from."""
        return await self._get(DEVICES + "/self")

    async def choose_gate(
        self, gate_id: str | None, *, if_match: str | None = None, idempotency_key: str | None = None
    ) -> Tagged:
        """Puts the device whose token this is at a gate of its event; None: at none."""
        return await self._patch(DEVICES + "/self", {"gate_id": gate_id}, idempotency_key, if_match)

    async def revoke(self, device_id: str) -> None:
        """Ends a device."""
        await self._delete(path(DEVICES, device_id))


class Checkins(Noun):
    """Check-ins over REST; for a door with many, see `ScanSocket`."""

    async def one(
        self,
        event_id: str,
        credential: str,
        *,
        gate_id: str | None = None,
        direction: str | None = None,
        scan_id: str | None = None,
        scanned_at: Time = None,
        offline: bool | None = None,
        refused: str | None = None,
        force: bool | None = None,
    ) -> Json:
        """The verdict on a scan. `scan_id` is its request id. `offline`: it was decided without a network, `refused`
        tells why not; `force` lets the person in as a supervisor."""
        body = given(
            event_id=event_id,
            credential=credential,
            gate_id=gate_id,
            direction=direction,
            scan_id=scan_id or self._caller.new_id(),
            scanned_at=scanned_at,
            offline=offline,
            refused=refused,
            force=force,
        )
        return await self._post(CHECKINS, body, body["scan_id"])

    async def many(self, items: Sequence[Mapping[str, Any]]) -> list[Json]:
        """Any number of scans, with the fields of `one`. In the order of the items: the verdict, or `{"scan_id",
        "problem"}`. Items that find the system busy are sent again."""
        named = [{"scan_id": self._caller.new_id(), **given(**item)} for item in items]
        return await in_batches(self._caller, CHECKINS + ":batch", named, "scan_id")


class Leaderboards(Noun):
    """Ranks."""

    async def get(
        self, board: str, *, window: str | None = None, limit: int | None = None, around: str | None = None
    ) -> Json:
        """The top, or the ranks around a card. Windows: `all`, `day`, `day:YYYYMMDD`, `event:ID`."""
        return await self._get(path(LEADERBOARDS, board), window=window, limit=limit, around=around)

    async def pay_out(
        self,
        board: str,
        window: str,
        prizes: Sequence[int],
        *,
        note: str | None = None,
        idempotency_key: str | None = None,
    ) -> Json:
        """Awards the prizes to the first ranks of a window that is frozen (`week:202647`), once."""
        body = given(window=window, prizes=prizes, note=note)
        return await self._post(path(LEADERBOARDS, board, "payout"), body, idempotency_key)

    async def payout(self, board: str, window: str) -> Json:
        """The winners of a window that was paid out."""
        return await self._get(path(LEADERBOARDS, board, "payout"), window=window)
