"""Who may use the sockets how often, and from which pages."""

from __future__ import annotations

import pytest

from gateway.cors import FixedOrigins
from gateway.sockets import codes
from tests.support.socket_edge import (
    DEVICE_TOKEN,
    EVENT,
    FOREIGN_TOKEN,
    JSON,
    KEY_TOKEN,
    MSGPACK,
    TENANT,
    TOPIC,
    Client,
    running_edge,
    subscribe,
)

PAGE, OTHER_PAGE = "https://vip.example.org", "https://evil.example.net"


class TestScans:
    @pytest.mark.parametrize("wire", [JSON, MSGPACK])
    async def test_what_is_over_the_limit_is_refused_one_by_one_and_had_no_effect(self, wire: str) -> None:
        async with running_edge(rates={"checkins-device": "1/h burst 3"}) as edge, edge.scanner(wire) as client:
            for number in range(5):
                await client.send({"t": "scan", "id": str(number), "credential": edge.credential()})
            frames = {frame["id"]: frame for frame in [await client.receive() for _ in range(5)]}
            assert [frames[str(number)]["t"] for number in range(5)] == ["verdict"] * 3 + ["error"] * 2
            assert frames["4"]["code"] == "rate_limited"
            assert frames["4"]["retry_after_ms"] > 0
            assert [check_in.request_id for check_in in edge.engine.check_ins] == ["0", "1", "2"]
            await client.send({"t": "ping", "n": 1})
            assert (await client.receive())["t"] == "pong", "the socket goes on"

    async def test_the_items_of_a_frame_count_each(self) -> None:
        async with running_edge(rates={"checkins-device": "1/h burst 3"}) as edge, edge.scanner() as client:
            items = [{"id": str(number), "credential": edge.credential()} for number in range(5)]
            await client.send({"t": "scans", "items": items})
            frame = await client.receive()
            by_id = {item["id"]: item for item in frame["items"]}
            assert [by_id[str(n)].get("code") for n in range(5)] == [None] * 3 + ["rate_limited"] * 2

    async def test_the_usual_limits_let_a_whole_frame_pass(self) -> None:
        async with running_edge() as edge, edge.scanner() as client:
            for _ in range(4):
                items = [{"id": str(number), "credential": edge.credential()} for number in range(256)]
                await client.send({"t": "scans", "items": items})
                assert "error" not in {item.get("t") for item in (await client.receive())["items"]}

    async def test_forged_credentials_count_too(self) -> None:
        async with running_edge(rates={"checkins-device": "1/h burst 2"}) as edge, edge.scanner() as client:
            for number in range(3):
                await client.send({"t": "scan", "id": str(number), "credential": "MV1:FORGED"})
            assert [(await client.receive())["t"] for _ in range(3)] == ["verdict", "verdict", "error"]


class TestTokens:
    @pytest.mark.parametrize("path", ["/v1/scan", "/v1/live"])
    async def test_too_many_wrong_tokens_end_with_a_code_of_their_own(self, path: str) -> None:
        async with running_edge() as edge:
            edge.identity.tries_left = 1
            for close in (codes.TOKEN_INVALID, codes.RATE_LIMITED):
                async with edge.connect(path, token=None) as connection:
                    await Client(connection).send({"t": "hello", "token": "guess", "event_id": EVENT})
                    error = await Client(connection).receive()
                    assert error["code"] == close.name
                    assert await Client(connection).closed() == close.code
            assert error["retry_after_ms"] == 2_000
            async with edge.connect(path, token=DEVICE_TOKEN) as connection:
                await Client(connection).send({"t": "hello", "event_id": EVENT})
                assert (await Client(connection).receive())["t"] == "welcome"


class TestOrigins:
    @pytest.mark.parametrize("path", ["/v1/scan", "/v1/live"])
    @pytest.mark.parametrize("origin", [OTHER_PAGE, "null", "", "http://127.0.0.1.evil.net", "https://VIP.example.org"])
    async def test_a_foreign_page_is_refused_before_anything_happens(self, path: str, origin: str) -> None:
        async with running_edge() as edge:
            edge.identity.origins = FixedOrigins({TENANT: [PAGE]})
            edge.identity.callers.clear()  # whoever asked for the token would be told that it is invalid
            async with edge.connect(path, origin=origin) as connection:
                error = await Client(connection).receive()
                assert (error["t"], error["code"]) == ("error", "forbidden")
                assert await Client(connection).closed() == 4403

    async def test_a_page_of_the_tenants_own_list_is_welcome(self) -> None:
        async with running_edge() as edge:
            edge.identity.origins = FixedOrigins({TENANT: [PAGE]})
            async with edge.connect("/v1/live", token=KEY_TOKEN, origin=PAGE) as connection:
                client = Client(connection)
                await subscribe(client, TOPIC)
                assert (await client.receive())["t"] == "snapshot"

    @pytest.mark.parametrize("path", ["/v1/scan", "/v1/live"])
    async def test_another_tenants_page_is_refused_once_the_caller_is_known(self, path: str) -> None:
        async with running_edge() as edge:
            edge.identity.origins = FixedOrigins({TENANT: [PAGE]})
            async with edge.connect(path, token=FOREIGN_TOKEN, origin=PAGE) as connection:
                if path == "/v1/scan":  # the other needs no hello: it may be closed already
                    await Client(connection).send({"t": "hello", "event_id": EVENT})
                assert await Client(connection).closed() == 4403

    async def test_our_own_pages_and_what_is_no_page_are_welcome(self) -> None:
        async with running_edge() as edge:
            for origin in (edge.url.replace("ws", "http"), None):
                async with edge.connect("/v1/scan", origin=origin) as connection:
                    await Client(connection).send({"t": "hello", "event_id": EVENT})
                    assert (await Client(connection).receive())["t"] == "welcome"
            async with edge.connect("/v1/scan", origin=edge.url.replace("ws", "https")) as connection:
                assert await Client(connection).closed() == 4403, "another scheme is another origin"
