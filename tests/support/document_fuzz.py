"""The whole engine behind a real server, and requests made from its OpenAPI document: what it allows, and what it does
not."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

import requests
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from tests.edge.in_process import System, running_system

JUDGED_ITEM_BY_ITEM = ("/v1/checkins:batch",)  # a bad item is answered in its place, the request as a whole is 200
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
START_TIMEOUT_S = 60.0
_T = TypeVar("_T")


class Served:
    """The system behind uvicorn, in a thread with its own event loop."""

    system: System

    def __init__(self, database: str) -> None:
        # With its protocol named, asyncio switches Nagle's algorithm off.
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(100)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._database = database
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    async def _run(self) -> None:
        async with running_system(self._database) as self.system:
            self._stop, self._loop = asyncio.Event(), asyncio.get_running_loop()
            config = uvicorn.Config(self.system.app, interface="asgi3", log_level="critical", lifespan="off")
            server = uvicorn.Server(config)
            serving = asyncio.create_task(server._serve(sockets=[self._socket]))
            self._started.set()
            await self._stop.wait()
            server.should_exit = True
            await serving

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """What a coroutine returns that runs where the system does."""
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def operations(self) -> list[Any]:
        """All of the document."""
        schema = schemathesis.openapi.from_url(f"{self.url}/openapi.json")
        schema.config.generation.update(with_security_parameters=False)  # who calls, the tests say
        return [result.ok() for result in schema.get_all_operations()]

    def __enter__(self) -> Served:
        self._thread.start()
        assert self._started.wait(START_TIMEOUT_S)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(START_TIMEOUT_S)


def exercise(
    operation: Any,
    tokens: st.SearchStrategy[str],
    cases: int,
    *,
    ids: Mapping[str, str] | None = None,
    number: int | None = None,
    on_answer: Callable[[int], None] = lambda _: None,
) -> None:
    """Calls an operation `cases` times, each as the holder of one of the tokens ("": as nobody). `ids`: what stands in
    the path every other time, by its name there. `number` seeds it; None: the same cases each time. Raises
    `FailureGroup` (of schemathesis) for an answer that is not as documented."""
    checks = CHECKS
    if operation.path in JUDGED_ITEM_BY_ITEM:
        checks = [check for check in CHECKS if check is not negative_data_rejection]
    allowed = operation.as_strategy()
    named = {name: value for name, value in (ids or {}).items() if f"{{{name}}}" in operation.path}
    strategy: st.SearchStrategy[Any] = allowed | operation.as_strategy(
        generation_mode=schemathesis.GenerationMode.NEGATIVE
    )
    if named:
        strategy |= allowed.map(lambda case: _naming(case, named))

    @given(case=strategy, token=tokens)
    @settings(
        max_examples=cases,
        deadline=None,
        derandomize=number is None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def run(case: Any, token: str) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        response = case.call(headers=headers, session=session)
        on_answer(response.status_code)
        case.validate_response(response, checks=checks)

    with requests.Session() as session:
        (run if number is None else seed(number)(run))()


def _naming(case: Any, named: Mapping[str, str]) -> Any:
    case.path_parameters.update(named)
    return case
