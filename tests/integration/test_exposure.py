"""What a running system lets strangers reach (API8): its stores, Ray's ports, its files. On real processes."""

from __future__ import annotations

import socket
import stat
from collections.abc import Iterator
from ipaddress import ip_address

import asyncpg
import grpc
import httpx
import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.integration.conftest import SeededSystem

# Serve's replicas would be asked by each other on a port of every interface; nothing of ours uses it, and it cannot be
# switched off. It takes nothing from whoever has no token, which is tested below.
SERVE_REPLICA = "ray::ServeReplica"
SERVE_METHOD = "/ray.serve.ASGIService/HandleRequest"
STORES = ("postgres", "valkey-server", "redis-server")
SECRET_FILES = ("connection.json", "secret.key", "ray.token", "redis/password", "postgres/password")


class Listener:
    """A socket that some process of the system listens on."""

    def __init__(self, process: psutil.Process, address: str, port: int) -> None:
        self.name = process.name()
        self.arguments = process.cmdline()
        self.port = port
        parsed = ip_address(address)
        self.is_loopback = parsed.is_loopback or getattr(parsed, "ipv4_mapped", None) == ip_address("127.0.0.1")

    def __repr__(self) -> str:
        return f"{self.name} on {self.port}"


def listeners(system: SeededSystem) -> Iterator[Listener]:
    top = psutil.Process(system.running.pid)
    for process in [top, *top.children(recursive=True)]:
        try:
            for found in process.net_connections(kind="inet"):
                if found.status == psutil.CONN_LISTEN or found.type == socket.SOCK_DGRAM:
                    yield Listener(process, found.laddr.ip, found.laddr.port)
        except psutil.NoSuchProcess:
            continue  # something short-lived


def own_address() -> str | None:
    """An address of this machine that others could reach."""
    addresses = (address for found in psutil.net_if_addrs().values() for address in found)
    return next(
        (each.address for each in addresses if each.family == socket.AF_INET and not each.address.startswith("127.")),
        None,
    )


def test_everything_listens_on_this_machine_alone(seeded_system: SeededSystem) -> None:
    found = list(listeners(seeded_system))
    assert {"postgres", "gcs_server", "raylet"} <= {listener.name for listener in found}
    assert seeded_system.running.port in {listener.port for listener in found}
    open_to_others = [listener for listener in found if not listener.is_loopback]
    assert [each for each in open_to_others if not each.name.startswith(SERVE_REPLICA)] == []
    assert len(open_to_others) <= 2, "one of each replica"
    address = own_address()
    for listener in found if address else []:
        if listener not in open_to_others:
            with socket.socket() as probe:
                probe.settimeout(1)
                assert probe.connect_ex((address, listener.port)) != 0, listener


def test_no_dashboard_is_served(seeded_system: SeededSystem) -> None:
    dashboards = [each for each in listeners(seeded_system) if "dashboard.py" in " ".join(each.arguments)]
    assert all("--disable-frontend" in each.arguments for each in dashboards)
    for listener in dashboards:
        page = httpx.get(f"http://127.0.0.1:{listener.port}/api/jobs/")
        assert "ray_dashboard" in page.text, "its own metrics, whatever is asked"
    assert 8265 not in {each.port for each in listeners(seeded_system)}


def test_rays_agents_ask_for_the_token(seeded_system: SeededSystem) -> None:
    """Whoever is let in there can run code."""
    asked = set()
    for listener in listeners(seeded_system):
        if listener.port == seeded_system.running.port or listener.name in (
            "postgres",
            "valkey-server",
            "redis-server",
        ):
            continue
        for headers in ({}, {"Authorization": "Bearer " + "0" * 64}):
            try:
                answer = httpx.get(f"http://127.0.0.1:{listener.port}/api/job_agent/jobs/", headers=headers, timeout=10)
            except httpx.TransportError:
                continue  # it does not speak HTTP
            if not answer.text.startswith("# HELP"):  # metrics, whatever is asked
                assert answer.status_code in (401, 403), listener
                asked.add(listener.name)
    assert asked, "at least one does"


def test_rays_grpc_ports_ask_for_the_token(seeded_system: SeededSystem) -> None:
    wanted = ("ray::", "raylet", "gcs_server")
    replicas = 0
    for listener in listeners(seeded_system):
        if not listener.name.startswith(wanted) or listener.port == seeded_system.running.port:
            continue
        code = status_of(listener.port, SERVE_METHOD, ())
        replicas += code is grpc.StatusCode.UNAUTHENTICATED and not listener.is_loopback
        wrong = status_of(listener.port, SERVE_METHOD, (("authorization", "Bearer " + "0" * 64),))
        for each in (code, wrong):
            # UNAVAILABLE: it speaks something else; UNIMPLEMENTED comes before the token is looked at.
            assert each in (
                grpc.StatusCode.UNAUTHENTICATED,
                grpc.StatusCode.UNAVAILABLE,
                grpc.StatusCode.UNIMPLEMENTED,
            ), (listener, each)
    assert replicas == 2


def status_of(port: int, method: str, metadata: tuple[tuple[str, str], ...]) -> grpc.StatusCode:
    """The status of a call with an empty message."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(method)
        try:
            call(b"", metadata=metadata, timeout=5)
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            return code
    return grpc.StatusCode.OK


def test_redis_asks_for_the_password(seeded_system: SeededSystem) -> None:
    url = httpx.URL(seeded_system.running.connection().redis_url)
    for password in (None, "", "wrong", "0" * 64):
        stranger = redis.Redis(port=url.port or 0, password=password, retry=Retry(NoBackoff(), 0))
        with stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
    with redis.Redis(port=url.port or 0, username=url.username, password=url.password) as ours:
        assert ours.ping()
    administrator = (seeded_system.data / "redis" / "password").read_text()
    with redis.Redis(port=url.port or 0, password=administrator) as admin:
        assert [user for user in admin.acl_users() if "nopass" in (admin.acl_getuser(user) or {})["flags"]] == []


async def test_postgres_asks_for_the_password(seeded_system: SeededSystem) -> None:
    url = httpx.URL(seeded_system.running.connection().postgres_url)
    for user, password in (("mastervip", ""), ("mastervip", "wrong"), ("postgres", ""), ("postgres", url.password)):
        with pytest.raises(asyncpg.PostgresError):
            await asyncpg.connect(
                host="127.0.0.1", port=url.port, user=user, password=password, database="mastervip", timeout=5
            )
    ours = await asyncpg.connect(seeded_system.running.connection().postgres_url)
    try:
        assert not await ours.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
        assert await ours.fetchval("SHOW listen_addresses") == "127.0.0.1"
    finally:
        await ours.close()


def test_secrets_lie_in_files_that_nobody_else_reads(seeded_system: SeededSystem) -> None:
    for name in SECRET_FILES:
        path = seeded_system.data / name
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    arguments = [argument for each in listeners(seeded_system) for argument in each.arguments]
    secrets = [(seeded_system.data / name).read_text().strip() for name in SECRET_FILES[1:]]
    assert not [secret for secret in secrets if any(secret in argument for argument in arguments)]
