"""`python -m loadtest.baselines` reads its orders (JSON) from stdin and serves a design until it is told to end."""

from __future__ import annotations

import sys

import msgspec
import uvicorn

from loadtest.baselines.app import Orders, application
from serve.listener import shared_socket


def main() -> None:
    """One process; several share the port."""
    orders = msgspec.json.decode(sys.stdin.buffer.read(), type=Orders)
    config = uvicorn.Config(application(orders), loop="uvloop", http="httptools", access_log=False, log_level="warning")
    uvicorn.Server(config).run(sockets=[shared_socket("127.0.0.1", orders.port)])


if __name__ == "__main__":
    main()
