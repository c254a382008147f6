"""A Python client of MasterVIP: REST and sockets, `MasterVip` for plain code, `AsyncMasterVip` for asyncio.

    with MasterVip("http://127.0.0.1:8080", token=api_key) as vip:
        verdict = vip.check_in(event_id, credential)

Rules, for all of it:
1. It keeps the contract's own: every command has its id before it is sent, and is sent under it until it is answered,
   with pauses that grow and what Retry-After says. So nothing is done twice, whatever breaks.
2. What may have been done and was never confirmed is `OutcomeUnknown`, never a plain failure.
3. It knows the server from outside: it imports nothing of it but the making of ids.
"""

from __future__ import annotations

from gateway.client.blocking import Client, MasterVip
from gateway.client.caller import Tagged
from gateway.client.client import AsyncClient, AsyncMasterVip
from gateway.client.errors import (
    ApiError,
    MasterVipError,
    OutcomeUnknown,
    ScanError,
    SignedOut,
    SocketClosed,
    SocketRefused,
    TopicError,
    Unavailable,
)
from gateway.client.live_socket import Change, LiveSocket, Position, Subscription
from gateway.client.retry import RetryPolicy
from gateway.client.scan_socket import ScanSocket

__all__ = [
    "ApiError",
    "AsyncClient",
    "AsyncMasterVip",
    "Change",
    "Client",
    "LiveSocket",
    "MasterVip",
    "MasterVipError",
    "OutcomeUnknown",
    "Position",
    "RetryPolicy",
    "ScanError",
    "ScanSocket",
    "SignedOut",
    "SocketClosed",
    "SocketRefused",
    "Subscription",
    "Tagged",
    "TopicError",
    "Unavailable",
]
