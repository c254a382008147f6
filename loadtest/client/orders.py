"""What the load client is told, as JSON on stdin."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Literal

import msgspec

from serve.tls import client_context

Curve = Literal["even", "doors"]


class Event(msgspec.Struct, frozen=True):
    """An event and the tokens of its scanners."""

    id: str
    tokens: list[str]


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """What to do. `rate` is check-ins a second, 0 for as many as it takes; `socket_share` is how many of the check-ins
    go over sockets where both ways are open; with `is_get` REST connections ask for `path` and nothing is scanned."""

    host: str
    port: int
    seconds: float
    warmup_s: float
    rest_connections: int = 0
    sockets: int = 0
    socket_share: float = 0.8
    window: int = 32
    scans_per_frame: int = 1
    rate: float = 0.0
    curve: Curve = "even"
    path: str = "/v1/checkins"
    is_get: bool = False
    ca_file: str | None = None
    events: list[Event] = []
    credentials: list[str] = []

    def ssl_context(self) -> ssl.SSLContext | None:
        """With `ca_file`: TLS, and what to trust."""
        return None if self.ca_file is None else client_context(Path(self.ca_file))
