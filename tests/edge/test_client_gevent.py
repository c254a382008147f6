"""The plain client where threads are greenlets, as under Locust (`tests/integration/test_load_tools.py` runs that)."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

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
