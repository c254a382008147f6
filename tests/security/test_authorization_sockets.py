"""Nobody can do more over a socket than the policy table says: every frame and every kind of topic, sent by every kind
of caller of two organisations, with every id in it swapped for a stranger's.

The sockets come from the running application, the frames from the structs that they are decoded into, the topics from
the table that they are recognised by.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any, get_args

import msgspec
import pytest

from gateway.rest.permissions import SOCKET
from gateway.sockets import codes, topics, wire
from tests.edge.edge import FakeEdge
from tests.security.clerk import TRIES, Swap
from tests.security.fields import IDS
from tests.security.judge import MADE_BY_THE_SERVER, NARROWED, reach_to
from tests.security.questions import Hole, Values, filled, holes_of
from tests.security.surface import Surface
from tests.security.world import Seat, Tenant, World, absent
from tests.support.asgi_socket import AsgiSocket, open_socket

ENTRANCES = [each for each in Surface(FakeEdge().app).entrances if each.method == SOCKET]
SOCKETS = {each.path: each.action for each in ENTRANCES if " " not in each.path}
# The kinds of topic, with topics of the kind; {} is the card of a topic of cards, else an event.
TOPICS = {
    "event:ID": ("event:{}",),
    "leaderboard:BOARD[:WINDOW]": ("leaderboard:points", "leaderboard:points:day", "leaderboard:points:event:{}"),
    "card:ID": ("card:{}",),
}
OBJECTS = {**IDS, "scan_id": "scan"}
# Fields of frames that name no object, with what stands in them; None: they are left out.
REQUEST_ID = Hole("frame", "id", "request")
PLAIN: dict[str, Any] = {
    "id": REQUEST_ID, "token": None, "resume": None, "direction": None, "scanned_at": None, "n": 1, "since": None,
    "now": None, "offline": None, "refused": None,
}  # fmt: skip
ANSWERS = ("welcome", "verdict", "verdicts", "annulled", "snapshot", "pong", "error")
VOLATILE = (
    "session", "now", "cursor", "seq", "epoch", "offset", "at", "inside", "admitted", "refused", "points", "scans",
    "scan_id",
)  # fmt: skip
_ID = re.compile(r"\b(?:card|evt|gate|dev|mem|org)_[0-9a-z]{20}\b")
Frames = Sequence[dict[str, Any]]

pytestmark = pytest.mark.asyncio(loop_scope="module")


def frame(kind: type[msgspec.Struct], at: str = "") -> dict[str, Any]:
    """A frame with holes where it names objects. Fails for a field of which nobody has said what it names."""
    fields: dict[str, Any] = {}
    tag = kind.__struct_config__.tag
    if tag is not None:
        fields["t"] = at = str(tag)
    for each in msgspec.structs.fields(kind):
        if each.name == "items":
            fields["items"] = [frame(wire.ScanItem, f"{at}/items/0")]
        elif each.name in OBJECTS:
            fields[each.name] = Hole("frame", f"{at}/{each.name}", OBJECTS[each.name])
        elif each.name not in PLAIN:
            raise AssertionError(f"frame {at}: does {each.name!r} name an object? Say so in IDS or PLAIN.")
        elif PLAIN[each.name] is not None:
            fields[each.name] = PLAIN[each.name]
    return fields


def conversations(path: str) -> list[tuple[str, Frames]]:
    """What there is to say on a socket, each with the action that it needs besides opening the socket ("": none)."""
    if path == "/v1/scan":
        kinds = [kind for kind in get_args(wire.ScanFrame) if kind not in (wire.Hello, wire.Pong)]
        return [("", [frame(wire.Hello), frame(kind)]) for kind in kinds]
    assert path == "/v1/live", f"what is said on {path}? Say so here."
    kinds = [kind for kind in get_args(wire.LiveFrame) if kind not in (wire.Subscribe, wire.Unsubscribe, wire.Pong)]
    found: list[tuple[str, Frames]] = [("", [frame(kind)]) for kind in kinds]
    for kind in topics.KINDS:
        for number, topic in enumerate(TOPICS[kind.name]):
            object_kind = "card" if kind.name == "card:ID" else "event"
            named = Hole("frame", f"{kind.name} {number}", object_kind, topic) if "{}" in topic else topic
            found.append((kind.action, [{"t": "subscribe", "topic": named}]))
    return found


def objects(frames: Frames) -> list[Hole]:
    """The places in a conversation that name objects."""
    return [hole for hole in holes_of(list(frames)) if hole is not REQUEST_ID]


async def said(world: World, path: str, token: str, frames: Frames, values: Values, headers: dict[str, str]) -> Any:
    """The answers to a conversation, without what differs each time, and how it ended."""
    answers: list[Any] = []
    async with open_socket(world.system.app, path, token, headers) as socket:
        for each in frames:
            await socket.send(filled(each, {**values, REQUEST_ID: world.system.parts.ids.request_id()}))
            answer = await socket.receive()
            while answer is not None and answer["t"] not in ANSWERS:
                answer = await socket.receive()
            if answer is None:
                break
            answers.append(answer)
            if answer["t"] == "error" and await _is_over(socket, answer):
                break
        return answers, socket.close_code.result() if socket.close_code.done() else None


async def _is_over(socket: AsgiSocket, error: dict[str, Any]) -> bool:
    """Whether an error frame was the last: those of the table of closes are followed by the close."""
    if error["code"] in {close.name for close in codes.CLOSES}:
        await socket.closed()
    return socket.close_code.done()


def readable(said: Any) -> str:
    """What a reader can learn from it, but for which ids there are: that is `told_of`."""
    answers, closed = said
    text = msgspec.json.encode([_without_volatile(answers), closed]).decode()
    return _ID.sub("(id)", MADE_BY_THE_SERVER.sub("(made)", text))


def told_of(said: Any, other: Tenant, named: Values) -> list[str]:
    """What the answers tell of another organisation that was not named."""
    text = msgspec.json.encode(said).decode()
    return [kind for kind, found in other.shared.ids.items() if found in text and found not in named.values()]


def _without_volatile(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_volatile(inner) for name, inner in value.items() if name not in VOLATILE}
    return [_without_volatile(inner) for inner in value] if isinstance(value, list) else value


async def own(world: World, tenant: Tenant, seat: Seat, frames: Frames) -> dict[Hole, str]:
    """What the seat may name; fresh, because a scan changes what it names."""
    bundle = world.bundle(tenant)
    bundle.take(seat.own)
    return {hole: await bundle.get(hole.kind) for hole in objects(frames)}


def judged(path: str, action: str, seat: Seat, said: Any) -> str:
    """What is wrong with the answers to a conversation about the seat's own things; "" for nothing."""
    answers, closed = said
    if reach_to(SOCKETS[path], seat) is None:
        is_right = closed == codes.FORBIDDEN.code and [answer["code"] for answer in answers] == ["forbidden"]
    elif action and reach_to(action, seat) is None:
        is_right = [answer.get("code") for answer in answers] == [codes.TOPIC_UNKNOWN]
    else:
        # Scans are made by a key: a device annuls its own only.
        told = {answer["code"] for answer in answers if answer["t"] == "error"}
        is_right = (
            closed is None and answers and told <= ({"scan_of_other_device"} if seat.principal == "device" else set())
        )
    return "" if is_right else f"{seat.name} on {path} ({action}): {said}"


async def swaps(
    world: World, tenant: Tenant, other: Tenant, seat: Seat, action: str, frames: Frames
) -> AsyncIterator[Swap]:
    """Every way to name a stranger's object, one at a time, and the header."""
    reach = reach_to(action, seat)
    for hole in objects(frames):
        found = [await other.shared.get(hole.kind)]
        if reach is not None and hole.kind in NARROWED[reach] and hole.kind in seat.own:
            found.append(await tenant.shared.get(hole.kind))
        for stranger in found:
            nobody = absent(hole.kind, stranger)
            mine, again = [await own(world, tenant, seat, frames) for _ in range(2)]
            yield Swap(f"{hole.kind} in {hole.at}", mine | {hole: stranger}, again | {hole: nobody})
    org = other.org_id
    mine, again = [await own(world, tenant, seat, frames) for _ in range(2)]
    yield Swap("X-Org-Id", mine, again, {"X-Org-Id": org}, {"X-Org-Id": absent("org", org)})


@pytest.mark.parametrize("path", sorted(SOCKETS))
async def test_each_caller_may_do_what_the_table_says(world: World, path: str) -> None:
    findings = []
    for tenant, other in world.pairs():
        for seat in tenant.seats:
            for action, frames in conversations(path):
                values = await own(world, tenant, seat, frames)
                answers = await said(world, path, seat.token, frames, values, {})
                findings.append(judged(path, action, seat, answers))
                findings += [f"{seat.name} is told {kind}" for kind in told_of(answers, other, {})]
    assert not any(findings), "\n".join(filter(None, findings))


@pytest.mark.parametrize("path", sorted(SOCKETS))
async def test_what_is_foreign_looks_absent_and_stays_as_it_was(world: World, path: str) -> None:
    findings = []
    for tenant, other in world.pairs():
        before = await world.digest(other)
        for seat, (action, frames) in itertools.product(tenant.seats, conversations(path)):
            async for swap in swaps(world, tenant, other, seat, action or SOCKETS[path], frames):
                findings.append(await compared(world, path, seat, other, frames, swap))
        after = await world.digest(other)
        findings += [f"table {name} has changed" for name in before if before[name] != after[name]]
    assert not any(findings), "\n".join(filter(None, findings))


def asked_of(costs: list[str]) -> list[str]:
    """What was asked on the caller's behalf. A scanner's own list of revoked cards is read whenever its feed gets to
    it, which may be after the socket has closed: that tells nothing about the frames."""
    return sorted(cost for cost in costs if not cost.startswith("SELECT card_id, state, serial, state_position"))


async def compared(world: World, path: str, seat: Seat, other: Tenant, frames: Frames, swap: Swap) -> str:
    """Whether the two of a swap are the same, in what they answer and in what they cost; "" when they are."""
    for _ in range(TRIES):
        with world.system.watch.looking() as told_cost:
            told = await said(world, path, seat.token, frames, swap.foreign, swap.foreign_headers)
        with world.system.watch.looking() as known_cost:
            known = await said(world, path, seat.token, frames, swap.absent, swap.absent_headers)
        if readable(told) != readable(known):
            return f"{seat.name} with a foreign {swap.label}: {readable(told)}; with an absent one: {readable(known)}"
        if found := told_of(told, other, swap.foreign):
            return f"{seat.name} with a foreign {swap.label} is told {found}"
        if asked_of(told_cost) == asked_of(known_cost):
            return ""
    return f"{seat.name} with a foreign {swap.label}: {told_cost}; with an absent one: {known_cost}"


@pytest.mark.parametrize("path", sorted(SOCKETS))
async def test_nobody_gets_in_without_a_token(world: World, path: str) -> None:
    tenant = world.tenants[0]
    wrong_secret = tenant.key[:-1] + ("0" if tenant.key[-1] != "0" else "1")
    for _, frames in conversations(path):
        values = {hole: await tenant.shared.get(hole.kind) for hole in objects(frames)}
        for token in ("", "x", wrong_secret):
            opening = frames if token else [{"t": "hello"}, *frames]
            answers, closed = await said(world, path, token, opening, values, {})
            assert (closed, [answer.get("code") for answer in answers]) == (4401, ["token_invalid"]), (token, frames)
        in_address = f"{path}?token={tenant.key}&access_token={tenant.key}"
        _, closed = await said(world, in_address, "", [{"t": "hello"}, *frames], values, {})
        assert closed == codes.TOKEN_INVALID.code, "a token in the address ends up in logs"


async def test_every_socket_is_known(world: World) -> None:
    assert sorted(world.system.app._sockets) == sorted(SOCKETS)
