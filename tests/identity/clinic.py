"""A clinic with an authority of its own, whose certificates say who calls."""

import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from orchestrator.testing import Service


class Clinic:
    """An authority of its own, our server's certificate, and the environment that has us ask for clients'."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.ca, self.folder = trustme.CA(), folder
        self.ca_file = folder / "ca.pem"
        self.ca.cert_pem.write_to_path(self.ca_file)
        certificate, key = self.files(self.ca.issue_cert("127.0.0.1", "localhost"), "server")
        self.environ = {
            "ORCHESTRATOR_WEB_TLS_CERTIFICATE_FILE": certificate,
            "ORCHESTRATOR_WEB_TLS_KEY_FILE": key,
            "ORCHESTRATOR_AUTH_CERTIFICATE_CA_FILE": str(self.ca_file),
        }

    def issue(self, name: str) -> trustme.LeafCert:
        """A certificate for a DNS name, or for a URI, of which trustme knows nothing."""
        if ":" not in name:
            return self.ca.issue_cert(name)
        issuer = x509.load_pem_x509_certificate(self.ca.cert_pem.bytes())
        issuer_key: Any = load_pem_private_key(self.ca.private_key_pem.bytes(), None)
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder(issuer.subject, x509.Name([]), key.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=1))
            .not_valid_after(now + timedelta(minutes=5))
            .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(name)]), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
            .sign(issuer_key, SHA256())
        )
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return trustme.LeafCert(pem, certificate.public_bytes(Encoding.PEM), [])

    def taken_back(self, *certificates: trustme.LeafCert, lasts: float = 3_600.0) -> str:
        """A file with the authority's list of these."""
        issuer = x509.load_pem_x509_certificate(self.ca.cert_pem.bytes())
        issuer_key: Any = load_pem_private_key(self.ca.private_key_pem.bytes(), None)
        now = datetime.now(UTC)
        made = x509.CertificateRevocationListBuilder(
            issuer.subject, now - timedelta(days=1), now + timedelta(seconds=lasts)
        )
        for certificate in certificates:
            number = x509.load_pem_x509_certificate(certificate.cert_chain_pems[0].bytes()).serial_number
            one = x509.RevokedCertificateBuilder(number, now - timedelta(hours=1))
            made = made.add_revoked_certificate(one.build())
        file = self.folder / f"crl-{len(certificates)}-{lasts}.pem"
        file.write_bytes(made.sign(issuer_key, SHA256()).public_bytes(Encoding.PEM))
        return str(file)

    def files(self, issued: trustme.LeafCert, name: str) -> tuple[str, str]:
        certificate, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        certificate.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(key)
        return str(certificate), str(key)

    def context(self, issued: trustme.LeafCert | None) -> ssl.SSLContext:
        """A client's, who believes our server."""
        context = ssl.create_default_context(cafile=str(self.ca_file))
        if issued is not None:
            issued.configure_cert(context)
        return context

    @asynccontextmanager
    async def serving(self, **settings: str) -> AsyncGenerator[Service]:
        own = {f"ORCHESTRATOR_AUTH_{name.upper()}": value for name, value in settings.items()}
        async with Service(self.folder / "ledger.db", {**self.environ, **own}) as service:
            yield service
