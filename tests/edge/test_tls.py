"""TLS: what is spoken, whose certificate is shown, and who trusts it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from websockets.asyncio.client import connect

from gateway.http import Receive, Scope, Send
from serve import tls
from serve.listener import Listener
from serve.settings import Settings
from serve.stores import quiet_port
from tests.edge.edge import KEY, FakeEdge, bearer


@contextlib.asynccontextmanager
async def listening(app: Any, data: Path, **settings: Any) -> AsyncIterator[tuple[str, Path]]:
    """The address, and the certificate that is to be trusted."""
    certificate, key, pinned = tls.prepare(data, settings.pop("tls_cert", None), settings.pop("tls_key", None))
    port = quiet_port()
    listener = Listener(
        app,
        Settings(data=data, port=port, tls=True, tls_cert=certificate, tls_key=key, drain_timeout_s=1, **settings),
    )
    await listener.start()
    try:
        yield f"https://127.0.0.1:{port}", pinned
    finally:
        await listener.stop()


def made(directory: Path, name: str, days: int, *, issuer: tuple[Path, Path] | None = None) -> tuple[Path, Path]:
    """A certificate for a name of somebody's own; its own issuer, or with the issuer's behind it in the file."""
    private = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issued_by, signing, chain = subject, private, b""
    if issuer is not None:
        issued_by = x509.load_pem_x509_certificate(issuer[0].read_bytes()).subject
        loaded = serialization.load_pem_private_key(issuer[1].read_bytes(), None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)
        signing, chain = loaded, issuer[0].read_bytes()
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issued_by)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=400))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .sign(signing, hashes.SHA256())
    )
    paths = directory / f"{name}.pem", directory / f"{name}.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + chain)
    paths[1].write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return paths


@pytest.fixture
def app() -> Any:
    return FakeEdge().app


async def test_our_own_certificate_is_trusted_by_whoever_has_it_and_names_this_machine(
    app: Any, tmp_path: Path
) -> None:
    async with listening(app, tmp_path) as (url, pinned):
        for context in (tls.client_context(pinned), ssl.create_default_context(cafile=str(pinned))):
            async with httpx.AsyncClient(verify=context) as client:
                for address in (url, url.replace("127.0.0.1", "localhost")):
                    answer = await client.get(f"{address}/healthz")
                    assert answer.status_code == 200
                    assert answer.headers["strict-transport-security"] == "max-age=31536000"
        async with httpx.AsyncClient() as stranger:
            with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                await stranger.get(f"{url}/healthz")


async def test_hot_answers_carry_hsts_and_only_over_tls(tmp_path: Path) -> None:
    edge = FakeEdge()
    body = {"event_id": "evt_1", "credential": edge.credential()}
    async with (
        listening(edge.app, tmp_path) as (url, pinned),
        httpx.AsyncClient(verify=tls.client_context(pinned), headers=bearer(KEY)) as client,
    ):
        for sent in (body, {}):
            answer = await client.post(f"{url}/v1/checkins", json=sent)
            assert "strict-transport-security" in answer.headers


async def test_nothing_older_than_tls_1_3_is_spoken(app: Any, tmp_path: Path) -> None:
    async with listening(app, tmp_path) as (url, pinned):
        port = int(url.rpartition(":")[2])
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.load_verify_locations(pinned)
        client.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", port, ssl=client)
        client.maximum_version = ssl.TLSVersion.TLSv1_3
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client)
        assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
        writer.close()
        await writer.wait_closed()


async def test_plain_http_is_not_answered(app: Any, tmp_path: Path) -> None:
    async with listening(app, tmp_path) as (url, _), httpx.AsyncClient() as client:
        with pytest.raises(httpx.TransportError):
            await client.get(url.replace("https", "http") + "/healthz")


async def test_a_handshake_that_never_comes_is_not_waited_for(app: Any, tmp_path: Path) -> None:
    async with listening(app, tmp_path, head_timeout_s=0.3) as (url, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_sockets_go_over_tls(tmp_path: Path) -> None:
    async def hello(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": scope["scheme"]})
        await send({"type": "websocket.close", "code": 1000})

    async with (
        listening(hello, tmp_path) as (url, pinned),
        connect(url.replace("https", "wss"), ssl=tls.client_context(pinned)) as socket,
    ):
        assert await socket.recv() == "wss"


class TestCertificate:
    def test_it_is_made_once_and_its_key_is_ours_alone(self, tmp_path: Path) -> None:
        certificate, key, pinned = tls.prepare(tmp_path, None, None)
        first = certificate.read_bytes(), key.read_bytes()
        assert key.stat().st_mode & 0o777 == 0o600
        assert (tmp_path / "tls").stat().st_mode & 0o777 == 0o700
        tls.prepare(tmp_path, None, None)
        assert (certificate.read_bytes(), key.read_bytes()) == first
        assert pinned.read_bytes() == first[0]

    @pytest.mark.parametrize("days", [-1, tls.RENEW_DAYS - 1])
    def test_it_is_made_anew_before_it_ends(self, tmp_path: Path, days: int) -> None:
        tls.prepare(tmp_path, None, None)
        old = made(tmp_path, "localhost", days)
        (tmp_path / "tls" / "cert.pem").write_bytes(old[0].read_bytes())
        (tmp_path / "tls" / "key.pem").write_bytes(old[1].read_bytes())
        certificate, _, _ = tls.prepare(tmp_path, None, None)
        assert certificate.read_bytes() != old[0].read_bytes()
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
        assert found.not_valid_after_utc > datetime.now(UTC) + timedelta(days=tls.RENEW_DAYS)

    def test_half_a_certificate_is_made_anew(self, tmp_path: Path) -> None:
        certificate, key, _ = tls.prepare(tmp_path, None, None)
        certificate.write_bytes(certificate.read_bytes()[:200])
        tls.prepare(tmp_path, None, None)
        tls.server_context(certificate, key)

    async def test_the_operators_own_is_shown_with_its_chain_and_trusted_by_our_commands(
        self, app: Any, tmp_path: Path
    ) -> None:
        authority = made(tmp_path, "authority", 100)
        own = made(tmp_path, "vip.example.org", 100, issuer=authority)
        async with listening(app, tmp_path, tls_cert=own[0], tls_key=own[1]) as (url, pinned):
            # It is for another name than 127.0.0.1, and all the same it is the right one.
            async with httpx.AsyncClient(verify=tls.client_context(pinned)) as client:
                assert (await client.get(f"{url}/healthz")).status_code == 200
            # Whoever knows the authority and the name.
            outside = ssl.create_default_context(cafile=str(authority[0]))
            _, writer = await asyncio.open_connection(
                "127.0.0.1", int(url.rpartition(":")[2]), ssl=outside, server_hostname="vip.example.org"
            )
            writer.close()
            await writer.wait_closed()

    async def test_another_of_the_same_authority_is_not_the_pinned_one(self, app: Any, tmp_path: Path) -> None:
        authority = made(tmp_path, "authority", 100)
        own = made(tmp_path, "vip.example.org", 100, issuer=authority)
        other = made(tmp_path, "evil.example.org", 100, issuer=authority)
        _, _, pinned = tls.prepare(tmp_path / "ours", *own)
        async with (
            listening(app, tmp_path / "theirs", tls_cert=other[0], tls_key=other[1]) as (url, _),
            httpx.AsyncClient(verify=tls.client_context(pinned)) as client,
        ):
            with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                await client.get(f"{url}/healthz")

    def test_what_cannot_be_used_is_said(self, tmp_path: Path) -> None:
        one, two, over = made(tmp_path, "one", 9), made(tmp_path, "two", 9), made(tmp_path, "over", -1)
        (tmp_path / "rubbish").write_text("rubbish")
        for pair in (
            (one[0], two[1]),
            (tmp_path / "rubbish", one[1]),
            (one[0], tmp_path / "rubbish"),
            (tmp_path / "absent", one[1]),
            over,
        ):
            with pytest.raises(tls.TlsError, match="TLS with"):
                tls.prepare(tmp_path / "data", *pair)

    def test_a_directory_that_cannot_be_written_is_said(self, tmp_path: Path) -> None:
        (tmp_path / "tls").write_text("in the way")
        with pytest.raises(tls.TlsError, match=os.fspath(tmp_path)):
            tls.prepare(tmp_path, None, None)


@pytest.mark.parametrize(
    "settings", [{"tls": True, "tls_cert": "a.pem"}, {"tls_key": "a.pem"}, {"tls_cert": "a.pem", "tls_key": "b.pem"}]
)
def test_half_of_the_settings_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="tls_"):
        Settings(**settings)
