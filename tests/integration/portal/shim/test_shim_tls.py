"""TLS: the certificate is checked against the instance's name, although the connection goes to a checked address."""

from __future__ import annotations

import asyncio
import datetime as dt
import socket
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.integration.portal.shim.rig import Server, always, http, serve

from provider_federation.portal.shim import Call, Outcome, Shim

OK = always(http(200, {"ok": True}))


def certificate(folder: Path, name: str, *, days: int = 2) -> Path:
    """A self-signed certificate with its key in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)  # noqa: TID251  certificates live in real time
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now - dt.timedelta(days=3))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}{days}.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


def run(pem: Path, trusted: Path | None, monkeypatch: pytest.MonkeyPatch) -> tuple[Outcome, Server]:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_a, **_k: [(0, 0, 0, "", ("127.0.0.1", 0))])
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(pem)
    ours = ssl.create_default_context(cafile=str(trusted)) if trusted else None

    async def call() -> tuple[Outcome, Server]:
        async with serve(OK, tls=theirs) as server, Shim(tls=ours) as shim:
            target = server.target(
                base_url=f"https://acme.internal:{server.port}", private_hosts=("acme.internal",)
            )
            return await shim.call(target, Call("GET", "/api/x", timeout=5)), server

    return asyncio.run(call())


def test_the_name_is_kept(tmp_path, monkeypatch) -> None:
    pem = certificate(tmp_path, "acme.internal")
    outcome, server = run(pem, pem, monkeypatch)
    assert outcome.ok
    assert server.sent[0]["Host"] == f"acme.internal:{server.port}"


def test_another_name_is_refused(tmp_path, monkeypatch) -> None:
    pem = certificate(tmp_path, "other.internal")
    outcome, server = run(pem, pem, monkeypatch)
    assert (outcome.code, server.sent) == ("tls_failed", [])


def test_an_unknown_issuer_is_refused(tmp_path, monkeypatch) -> None:
    outcome, server = run(certificate(tmp_path, "acme.internal"), None, monkeypatch)
    assert (outcome.code, server.sent) == ("tls_failed", [])


def test_an_expired_certificate_is_refused(tmp_path, monkeypatch) -> None:
    pem = certificate(tmp_path, "acme.internal", days=-1)
    outcome, server = run(pem, pem, monkeypatch)
    assert (outcome.code, server.sent) == ("tls_failed", [])


def test_a_server_without_tls(monkeypatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_a, **_k: [(0, 0, 0, "", ("127.0.0.1", 0))])

    async def call() -> Outcome:
        async with serve(OK) as server, Shim() as shim:
            target = server.target(
                base_url=f"https://acme.internal:{server.port}", private_hosts=("acme.internal",)
            )
            return await shim.call(target, Call("GET", "/api/x", timeout=3, attempts=1))

    assert asyncio.run(call()).code in {"tls_failed", "connection_lost", "timed_out"}
