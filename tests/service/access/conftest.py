"""A file of two keys, and certificates made on the spot."""

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from service.access.keys import new_key


class Keys(NamedTuple):
    """A file of keys, and their tokens."""

    file: Path
    free: str
    limited: str
    """Two requests at once."""


class Certificate(NamedTuple):
    """PEM files of a certificate for localhost that signs itself."""

    certificate: Path
    key: Path


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    (free, first), (limited, second) = new_key("free"), new_key("limited", 2)
    file = tmp_path / "keys.txt"
    file.write_text(f"{first.line()}\n{second.line()}\n")
    return Keys(file, free, limited)


@pytest.fixture
def make_certificate(tmp_path: Path) -> Callable[..., Certificate]:
    """`make_certificate(name, password=…)`: a new pair; the certificate's common name is `name`."""

    def make(name: str = "localhost", password: bytes | None = None) -> Certificate:
        private = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(private.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(private, hashes.SHA256())
        )
        files = Certificate(tmp_path / f"{name}.crt", tmp_path / f"{name}.key")
        files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        files.key.write_bytes(
            private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
        )
        return files

    return make
