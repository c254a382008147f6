"""Which cards are revoked, on their way to a scanner: all of them or what it does not know, then each change as it
comes, and never a hole. Postgres is a stand-in that the test commands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from actors.replies import CardChanges, CardMark, Failed
from gateway.sockets import limits
from tests.support.socket_edge import EVENT, JSON, KEY_TOKEN, MSGPACK, TENANT, Client, SocketEdge, running_edge, until

TOPIC = "revocations"
BEGINNING = 7  # how far the tenant's partition is when the edge starts


@pytest.fixture
async def edge() -> AsyncIterator[SocketEdge]:
    async with running_edge() as running:
        yield running


both_wires = pytest.mark.parametrize("wire", [JSON, MSGPACK])


def change(edge: SocketEdge, position: int, since: int, *changes: tuple[str, str], is_told: bool = True) -> None:
    """These cards' states change at `position`: Postgres has it, and the host tells it, unless `is_told` is false."""
    edge.lists.changes += [(position, card_id, state) for card_id, state in changes]
    marks = tuple(CardMark(card_id, state) for card_id, state in changes) if is_told else ()
    edge.engine.publish(TENANT, TOPIC, CardChanges(since if is_told else position, position, marks))


class Scanner:
    """What a scanner makes of the frames: the cards it would refuse, and where it stands."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.refuses: set[str] = set()
        self.cursor = ""
        self.frames: list[dict[str, Any]] = []

    async def take(self) -> dict[str, Any]:
        frame = await self.client.next("revoked")
        self.frames.append(frame)
        if frame.get("reset"):
            self.refuses.clear()
        self.refuses |= set(frame["cards"])
        self.refuses -= set(frame["restored"])
        self.cursor = frame["cursor"]
        return frame

    async def take_all(self) -> None:
        """Until the list is at its end."""
        while (await self.take()).get("more"):
            pass


class TestTheList:
    @both_wires
    async def test_a_scanner_that_knows_none_gets_all_and_then_each_change(self, edge: SocketEdge, wire: str) -> None:
        edge.lists.changes = [(3, "card_a", "revoked"), (4, "card_b", "suspended"), (5, "card_c", "active")]
        async with edge.scanner(wire) as client:
            scanner = Scanner(client)
            first = await scanner.take()
            change(edge, 9, BEGINNING, ("card_d", "revoked"), ("card_b", "active"))
            second = await scanner.take()
        assert first == {
            "t": "revoked",
            "cards": ["card_a", "card_b"],
            "restored": [],
            "reset": True,
            "cursor": str(BEGINNING),
        }
        assert second == {"t": "revoked", "cards": ["card_d"], "restored": ["card_b"], "cursor": "9"}

    @both_wires
    async def test_a_card_that_was_issued_again_comes_with_its_serial(self, edge: SocketEdge, wire: str) -> None:
        edge.lists.changes, edge.lists.serials = [(3, "card_a", "active"), (4, "card_b", "revoked")], {"card_a": 2}
        async with edge.scanner(wire) as client:
            scanner = Scanner(client)
            first = await scanner.take()
            edge.engine.publish(TENANT, TOPIC, CardChanges(BEGINNING, 9, (CardMark("card_c", "suspended", 1),)))
            second = await scanner.take()
        assert (first["cards"], first["serials"]) == (["card_b"], {"card_a": 2})
        assert second == {"t": "revoked", "cards": ["card_c"], "restored": [], "serials": {"card_c": 1}, "cursor": "9"}

    async def test_a_list_without_cards_is_told_too(self, edge: SocketEdge) -> None:
        async with edge.scanner() as client:
            frame = await Scanner(client).take()
        assert (frame["cards"], frame["reset"], frame["cursor"]) == ([], True, str(BEGINNING))

    async def test_the_welcome_says_where_the_list_goes_on(self, edge: SocketEdge) -> None:
        for resume, cursor in ((None, ""), ("", ""), ("5", "5"), ("nonsense", "")):
            async with edge.connect("/v1/scan") as connection:
                client = Client(connection)
                await client.send({"t": "hello", "event_id": EVENT, "resume": resume})
                assert (await client.next("welcome"))["cursor"] == cursor

    async def test_whoever_comes_back_gets_what_came_after_its_cursor(self, edge: SocketEdge) -> None:
        edge.lists.changes = [(3, "card_a", "revoked"), (5, "card_b", "revoked"), (6, "card_a", "active")]
        async with edge.scanner(resume="4") as client:
            frame = await Scanner(client).take()
        assert frame == {"t": "revoked", "cards": ["card_b"], "restored": ["card_a"], "cursor": str(BEGINNING)}
        async with edge.scanner(resume=str(BEGINNING)) as client:
            frame = await Scanner(client).take()
        assert frame == {"t": "revoked", "cards": [], "restored": [], "cursor": str(BEGINNING)}, "nothing happened"

    @pytest.mark.parametrize("resume", ["1000", "999999999999999999", "-1", "1e3", "\u0664", "nonsense"])
    async def test_a_cursor_that_is_none_of_ours_begins_anew(self, edge: SocketEdge, resume: str) -> None:
        edge.lists.changes = [(3, "card_a", "revoked")]
        async with edge.scanner(resume=resume) as client:
            frame = await Scanner(client).take()
        assert (frame["cards"], frame.get("reset"), frame["cursor"]) == (["card_a"], True, str(BEGINNING))

    async def test_a_long_list_comes_in_frames_one_after_the_other(
        self, edge: SocketEdge, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limits, "CARDS_PER_FRAME_MAX", 2)
        edge.lists.changes = [(position, f"card_{position}", "revoked") for position in range(1, 6)]
        async with edge.scanner() as client:
            scanner = Scanner(client)
            await scanner.take_all()
        assert scanner.refuses == {f"card_{position}" for position in range(1, 6)}
        assert [frame["cards"] for frame in scanner.frames] == [["card_1", "card_2"], ["card_3", "card_4"], ["card_5"]]
        assert [frame.get("reset", False) for frame in scanner.frames] == [True, False, False]
        assert [frame["cursor"] for frame in scanner.frames] == ["2", "4", str(BEGINNING)]
        async with edge.scanner(resume="2") as client:
            again = Scanner(client)
            await again.take_all()
        assert again.refuses == {"card_3", "card_4", "card_5"}, "cut off within the list it goes on there"


class TestNoHole:
    async def test_what_changes_while_the_list_is_read_comes_after_it(self, edge: SocketEdge) -> None:
        edge.lists.changes = [(3, "card_a", "revoked")]
        edge.lists.gate.clear()
        async with edge.scanner() as client:
            scanner = Scanner(client)
            await until(lambda: bool(edge.lists.asked))
            change(edge, 9, BEGINNING, ("card_a", "active"))
            change(edge, 11, 9, ("card_b", "revoked"))
            edge.lists.gate.set()
            while scanner.cursor != "11":
                await scanner.take()
        assert scanner.refuses == {"card_b"}

    async def test_a_change_that_the_line_does_not_tell_is_read(self, edge: SocketEdge) -> None:
        async with edge.scanner() as client:
            scanner = Scanner(client)
            await scanner.take()
            change(edge, 9, BEGINNING, ("card_a", "revoked"), is_told=False)
            change(edge, 12, 9, ("card_b", "revoked"))
            while scanner.cursor != "12":
                await scanner.take()
        assert scanner.refuses == {"card_a", "card_b"}

    async def test_what_was_read_already_is_not_told_again(self, edge: SocketEdge) -> None:
        edge.lists.is_ahead = True
        edge.lists.changes = [(9, "card_a", "revoked"), (12, "card_a", "active")]
        async with edge.scanner(resume="5") as client:
            scanner = Scanner(client)
            assert (await scanner.take())["cursor"] == "12", "Postgres was ahead of the line"
            edge.engine.publish(TENANT, TOPIC, CardChanges(BEGINNING, 10, (CardMark("card_a", "revoked"),)))
            edge.engine.publish(TENANT, TOPIC, CardChanges(10, 13, (CardMark("card_b", "revoked"),)))
            frame = await scanner.take()
        assert frame == {"t": "revoked", "cards": ["card_b"], "restored": [], "cursor": "13"}

    async def test_a_list_goes_on_to_its_end_though_that_lies_beyond_what_was_asked(
        self, edge: SocketEdge, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limits, "CARDS_PER_FRAME_MAX", 2)
        edge.lists.is_ahead = True
        edge.lists.changes = [(position, f"card_{position}", "revoked") for position in (3, 4, 12, 13, 14)]
        async with edge.scanner() as client:
            scanner = Scanner(client)
            await scanner.take_all()
        assert scanner.cursor == "14"

    async def test_a_broken_line_is_mended_from_the_cursor(self, edge: SocketEdge) -> None:
        async with edge.scanner() as client:
            scanner = Scanner(client)
            await scanner.take()
            edge.lists.changes.append((8, "card_a", "revoked"))
            edge.engine.topics[(TENANT, TOPIC)].data = CardChanges(8, 8)
            edge.engine.restart(TENANT, TOPIC)
            change(edge, 9, 8, ("card_b", "revoked"))
            while scanner.cursor != "9":
                await scanner.take()
        assert scanner.refuses == {"card_a", "card_b"}
        assert [since for since, _ in edge.lists.asked] == [0, BEGINNING]

    async def test_while_the_list_cannot_be_read_the_cursor_stays_and_it_is_asked_for_again(
        self, edge: SocketEdge, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limits, "ASK_RETRY_MS_MIN", 5)
        edge.lists.changes = [(3, "card_a", "revoked")]
        edge.lists.is_away = True
        async with edge.scanner(resume="2") as client:
            await until(lambda: len(edge.lists.asked) >= 3)
            assert {since for since, _ in edge.lists.asked} == {2}
            change(edge, 9, BEGINNING, ("card_b", "revoked"))
            edge.lists.is_away = False
            scanner = Scanner(client)
            while scanner.cursor != "9":
                await scanner.take()
        assert scanner.refuses == {"card_a", "card_b"}

    async def test_an_engine_that_is_away_is_asked_again(
        self, edge: SocketEdge, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limits, "JOIN_DEADLINE_MS", 0)
        ask = edge.engine.ask
        failures = [Failed("unavailable", "no host", 5)] * 3

        async def sometimes(message: Any) -> Any:
            if getattr(message, "topic", "") == TOPIC and failures:
                return failures.pop()
            return await ask(message)

        monkeypatch.setattr(edge.engine, "ask", sometimes)
        async with edge.scanner() as client:
            assert (await Scanner(client).take())["cursor"] == str(BEGINNING)

    async def test_many_changes_while_the_scanner_comes_and_goes(
        self, edge: SocketEdge, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limits, "CARDS_PER_FRAME_MAX", 3)

        async def changing() -> None:
            for position in range(8, 408):
                state = ("revoked", "active", "suspended")[position % 3]
                change(edge, position, position - 1, (f"card_{position * 7 % 40}", state), is_told=position % 11 > 0)
                await asyncio.sleep(0.001)

        task = asyncio.create_task(changing())
        refuses: set[str] = set()
        cursor, cuts = "", 0
        while cursor != "407":
            async with edge.scanner(**({"resume": cursor} if cursor else {})) as client:
                scanner = Scanner(client)
                scanner.refuses = refuses
                for _ in range(cuts % 4 + 1):
                    if scanner.cursor != "407":
                        await scanner.take()
                cursor = scanner.cursor
            cuts += 1
        await task
        latest = {card_id: state for _, card_id, state in edge.lists.changes}
        assert refuses == {card_id for card_id, state in latest.items() if state != "active"}
        assert cuts > 5


class TestSlowScanner:
    async def test_a_long_list_waits_for_it_frame_by_frame(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "CARDS_PER_FRAME_MAX", 50)
        async with running_edge(send_buffer_bytes=8_192) as edge:
            edge.lists.is_ahead = True
            edge.lists.changes = [(position, f"card_{position:055}", "revoked") for position in range(1, 20_001)]
            async with edge.scanner() as client:
                client.connection.transport.pause_reading()
                [server_side] = edge.sockets._open
                await until(lambda: server_side.sending_since_s > 0 and len(edge.lists.asked) > 3)
                asked = len(edge.lists.asked)
                for _ in range(100):
                    await asyncio.sleep(0.001)
                assert len(edge.lists.asked) == asked, "what does not leave is not read"
                client.connection.transport.resume_reading()
                scanner = Scanner(client)
                await scanner.take_all()
            assert len(scanner.refuses) == 20_000

    async def test_one_frame_waits_for_it_however_many_cards_change(self) -> None:
        async with running_edge(send_buffer_bytes=8_192) as edge, edge.scanner() as client:
            scanner = Scanner(client)
            await scanner.take()
            [server_side] = edge.sockets._open
            client.connection.transport.pause_reading()
            for position in range(8, 2_008):
                change(edge, position, position - 1, (f"card_{position:060}", "revoked"))
                if position % 20 == 0:
                    await asyncio.sleep(0.001)
                assert server_side._queued_bytes < 20_000
            client.connection.transport.resume_reading()
            while scanner.cursor != "2007":
                await scanner.take()
        assert len(scanner.refuses) == 2_000
        assert len(scanner.frames) < 1_500, "what waited was read again together"


class TestWho:
    async def test_other_tenants_cards_are_not_among_them(self, edge: SocketEdge) -> None:
        async with edge.connect("/v1/scan", token=KEY_TOKEN) as connection:
            client = Client(connection)
            await client.send({"t": "hello", "event_id": EVENT})
            scanner = Scanner(client)
            await scanner.take()
            edge.engine.publish("org_b", TOPIC, CardChanges(7, 9, (CardMark("card_b", "revoked"),)))
            change(edge, 9, BEGINNING, ("card_a", "revoked"))
            assert (await scanner.take())["cards"] == ["card_a"]

    async def test_it_is_no_topic_to_subscribe_to(self, edge: SocketEdge) -> None:
        async with edge.subscriber() as client:
            await client.send({"t": "subscribe", "topic": TOPIC})
            assert (await client.receive())["code"] == "topic_unknown"

    async def test_all_scanners_of_a_tenant_share_a_subscription_and_the_bytes(self, edge: SocketEdge) -> None:
        async with edge.scanner() as one, edge.scanner() as other:
            scanners = [Scanner(one), Scanner(other)]
            for scanner in scanners:
                await scanner.take()
            change(edge, 9, BEGINNING, ("card_a", "revoked"))
            for scanner in scanners:
                assert (await scanner.take())["cards"] == ["card_a"]
            assert len(edge.lists.asked) == 2, "a change that the line tells is not read again"
        await until(lambda: not edge.hub._topics)

    @pytest.mark.parametrize("resume", [5, ["x"], {"cursor": "5"}, "x" * 65])
    async def test_a_resume_that_is_no_cursor_is_named(self, edge: SocketEdge, resume: Any) -> None:
        async with edge.connect("/v1/scan") as connection:
            client = Client(connection)
            await client.send({"t": "hello", "event_id": EVENT, "resume": resume})
            error = await client.receive()
            assert (error["code"], error["message"].split(":")[0]) == ("protocol_error", "resume")
            assert await client.closed() == 4400
