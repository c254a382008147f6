"""Locust with our scanners against the whole engine: it runs as the locustfile says, and every scan has its verdict."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import msgspec

from gateway.client import AsyncMasterVip
from gateway.http import AsgiApp, AsgiMessage, Receive, Scope, Send
from tests.edge.in_process import SUPERADMIN_TOKEN, System
from tests.support.serving import serving

ROOT = Path(__file__).parents[2]
USERS = 6
SCANS = 10


async def fixtures_of(base_url: str) -> dict[str, object]:
    """As much of the fixtures file as scanners need."""
    async with AsyncMasterVip(base_url, SUPERADMIN_TOKEN) as superadmin:
        vip = superadmin.acting_as((await superadmin.orgs.open("The Continental"))["api_key"]["key"])
        made = [await vip.events.create(name, 500, gates=["Door"]) for name in ("One", "Two")]
        paired = [await vip.devices.pair((await vip.devices.add(event["id"]))["pairing_code"]) for event in made]
        issued = await vip.cards.issue_many([{"member": {"name": f"Guest {number}"}} for number in range(120)])
    return {
        "events": [
            {"id": event["id"], "scanners": [{"token": device["token"]}]}
            for event, device in zip(made, paired, strict=True)
        ],
        "cards": [{"credential": result["card"]["credential"]} for result in issued],
    }


class Counted:
    """Looks on as an application is called: `enough` once there were so many check-ins over REST, and scans on
    sockets."""

    def __init__(self, app: AsgiApp) -> None:
        self._app = app
        self._left = {"/v1/checkins": SCANS, "/v1/scan": SCANS}
        self.enough = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counted() -> AsgiMessage:
            message = await receive()
            data = message.get("bytes") or message.get("body") or b""
            if scope["path"] in self._left and b"credential" in data:
                self._left[scope["path"]] -= 1
                if max(self._left.values()) <= 0:
                    self.enough.set()
            return message

        await self._app(scope, counted, send)


async def test_locust_scans_over_rest_and_sockets(system: System, tmp_path: Path) -> None:
    counted = Counted(system.app)
    async with serving(counted) as server:
        base_url = f"http://127.0.0.1:{server.port}"
        (tmp_path / "fixtures.json").write_bytes(msgspec.json.encode(await fixtures_of(base_url)))
        run = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "locust", "-f", "loadtest/locustfile.py", "--headless", "--json"),
            *("--host", base_url, "--fixtures", str(tmp_path / "fixtures.json")),
            *("-u", str(USERS), "-r", str(USERS), "--stop-timeout", "10"),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        ending = asyncio.create_task(run.communicate())
        try:
            async with asyncio.timeout(60):
                await counted.enough.wait()
        finally:
            run.terminate()
            out, log = await ending
    assert run.returncode == 0, log.decode()[-3_000:]
    lines = {line["method"]: line for line in msgspec.json.decode(out)}
    assert lines.keys() == {"REST", "WS"}, log.decode()[-3_000:]
    assert all(line["num_requests"] > 0 for line in lines.values())
    assert not any(line["num_failures"] for line in lines.values())


TWO_CLIENTS = """
from gevent import monkey; monkey.patch_all()
from gateway.client import MasterVip
with MasterVip("http://127.0.0.1:1") as one:
    try:
        MasterVip("http://127.0.0.1:1")
    except RuntimeError as error:
        print(error)
    print(one.new_id())
"""


async def test_where_there_are_no_threads_a_second_client_is_refused_and_does_not_hang() -> None:
    run = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-c", TWO_CLIENTS),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, log = await asyncio.wait_for(run.communicate(), 60)
    assert run.returncode == 0, log.decode()
    assert out.startswith(b"no event loop in a thread of its own")
