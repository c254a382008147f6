"""TLS for the gateways: the operator's certificate, or one of our own that is made once in the data directory.

Rules:
1. TLS 1.3 and nothing older; HTTP/1.1 (WebSockets need it).
2. Our own certificate is for this machine: self-signed, for localhost and 127.0.0.1. It is made by `up` before a
   gateway starts, kept, and made anew when it has less than `RENEW_DAYS` left. The key has mode 0600 and never leaves
   DATA/tls.
3. DATA/tls/pinned.pem is the server's certificate alone. Our own commands trust exactly that one certificate, whatever
   names it has: they come to 127.0.0.1, the operator's certificate is for another name.
"""

from __future__ import annotations

import os
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DIRECTORY = "tls"
VALID_DAYS = 397
RENEW_DAYS = 30


class TlsError(Exception):
    """The certificate or its key cannot be used; the message says why."""


def prepare(data: Path, certificate: Path | None, key: Path | None) -> tuple[Path, Path, Path]:
    """The certificate, its key, and the pinned certificate (rule 3), made as far as need be. Raises `TlsError`."""
    directory = data / DIRECTORY
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if certificate is None or key is None:
            certificate, key = directory / "cert.pem", directory / "key.pem"
            if not _is_good_for(certificate, timedelta(days=RENEW_DAYS)):
                _make(certificate, key)
        certificate, key = certificate.resolve(), key.resolve()
        server_context(certificate, key)
        first = x509.load_pem_x509_certificates(certificate.read_bytes())[0]
    except (OSError, ValueError, ssl.SSLError) as error:
        raise TlsError(f"TLS with {certificate or directory}: {error}") from error
    if first.not_valid_after_utc < datetime.now(UTC):
        raise TlsError(f"TLS with {certificate}: it ended at {first.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
    pinned = directory / "pinned.pem"
    _write(pinned, first.public_bytes(serialization.Encoding.PEM), 0o644)
    return certificate, key, pinned


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Rule 1. Raises `OSError` and `ssl.SSLError`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(certificate, key)
    return context


def client_context(pinned: Path) -> ssl.SSLContext:
    """For our own commands: rule 3. Raises `OSError` and `ssl.SSLError`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.check_hostname = False
    context.load_verify_locations(pinned)
    return context


def _is_good_for(certificate: Path, time: timedelta) -> bool:
    if not certificate.exists():
        return False
    try:
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
    except ValueError:
        return False
    return found.not_valid_after_utc > datetime.now(UTC) + time


def _make(certificate: Path, key: Path) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "MasterVIP on this machine")])
    names = [x509.DNSName("localhost"), *(x509.IPAddress(ip_address(address)) for address in ("127.0.0.1", "::1"))]
    now = datetime.now(UTC)
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    public = private.public_key()
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(private, hashes.SHA256())
    )
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    # The key first: a certificate without its key would be taken for good.
    _write(key, pem, 0o600)
    _write(certificate, made.public_bytes(serialization.Encoding.PEM), 0o644)


def _write(path: Path, content: bytes, mode: int) -> None:
    """Replaces the file in one step."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
    draft.replace(path)
