"""A headless Chromium, driven over the DevTools protocol: as much of it as the browser tests need."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)
START_TIMEOUT_S = 30.0


class Page:
    """One tab. What the page logs as an error or throws is collected in `complaints`."""

    def __init__(self, connection: ClientConnection) -> None:
        self.complaints: list[str] = []
        self._connection = connection
        self._session = ""
        self._numbers = iter(range(1, 1_000_000))
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def open(self) -> None:
        target = await self.call("Target.createTarget", url="about:blank")
        attached = await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            await self.call(f"{domain}.enable")

    async def read(self) -> None:
        """Takes in answers and events until cancelled."""
        async for text in self._connection:
            message = json.loads(text)
            if "id" in message:
                self._waiting.pop(message["id"]).set_result(message)
            elif message["method"] == "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(message["params"]["exceptionDetails"]))
            elif message["method"] == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
                self.complaints.append(message["params"]["entry"]["text"])

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        session = {"sessionId": self._session} if self._session else {}
        await self._connection.send(json.dumps({"id": number, "method": method, "params": params} | session))
        message = await asyncio.wait_for(answer, 20)
        assert "error" not in message, (method, message)
        result: dict[str, Any] = message["result"]
        return result

    async def look(self, width: int, height: int, *, is_dark: bool = True) -> None:
        """Sets the screen: its size in CSS pixels, and the colours that the user prefers."""
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 700
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])

    async def goto(self, url: str) -> None:
        await self.call("Page.navigate", url=url)

    async def value(self, expression: str) -> Any:
        """What a JavaScript expression gives."""
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def text(self, element_id: str) -> str:
        """What an element shows; empty while it does not exist."""
        return str(await self.value(f"document.getElementById('{element_id}')?.textContent ?? ''"))

    async def until(self, expression: str, wanted: Any, timeout_s: float = 15.0) -> None:
        """Waits until a JavaScript expression gives this."""
        found = None
        try:
            async with asyncio.timeout(timeout_s):
                while (found := await self.value(expression)) != wanted:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"{expression} is {found!r}, not {wanted!r}; {self.complaints}") from None

    async def until_text(self, element_id: str, text: str) -> None:
        """Waits until an element shows exactly this."""
        await self.until(f"document.getElementById('{element_id}')?.textContent", text)

    async def screenshot(self, path: Path) -> None:
        """A PNG of what is to be seen."""
        answer = await self.call("Page.captureScreenshot", format="png")
        await asyncio.to_thread(path.write_bytes, base64.b64decode(answer["data"]))


@contextlib.asynccontextmanager
async def open_page(program: str, profile: Path) -> AsyncIterator[Page]:
    """Starts a browser of its own, with an empty profile, and ends it."""
    process = await asyncio.create_subprocess_exec(
        program,
        *FLAGS,
        f"--user-data-dir={profile}",
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        port_file = profile / "DevToolsActivePort"
        async with asyncio.timeout(START_TIMEOUT_S):
            while not (port_file.exists() and port_file.read_text().count("\n")):
                assert process.returncode is None, "the browser ended at once"
                await asyncio.sleep(0.05)
        port, path = port_file.read_text().split("\n")[:2]
        address = f"ws://127.0.0.1:{port}{path}"
        async with connect(address, max_size=None, proxy=None, ping_interval=None) as connection:
            page = Page(connection)
            reading = asyncio.create_task(page.read())
            await page.open()
            try:
                yield page
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
