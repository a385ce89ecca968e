"""Certificates for servers on loopback, signed by an authority that only the test knows."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Pair:
    certificate: Path
    key: Path


class Authority:
    def __init__(self, directory: Path, name: str = "authority") -> None:
        self._key, self._name = _new_key(), _named(f"test {name}")
        self._certificate = _signed(
            self._name, self._name, self._key.public_key(), self._key, authority=True, host=None
        )
        pair = _written(directory, name, self._certificate, self._key)
        self.certificate, self.key = pair.certificate, pair.key

    def certify(self, host: str, directory: Path, name: str = "server") -> Pair:
        """A certificate for an address, or for a client."""
        key = _new_key()
        certificate = _signed(_named(host), self._name, key.public_key(), self._key, authority=False, host=host)
        return _written(directory, name, certificate, key)


def _new_key() -> Any:
    from cryptography.hazmat.primitives.asymmetric import rsa

    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _named(name: str) -> Any:
    from cryptography import x509

    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _signed(name: Any, issuer: Any, public_key: Any, key: Any, *, authority: bool, host: str | None) -> Any:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(issuer).public_key(public_key)
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
    builder = builder.not_valid_after(now + datetime.timedelta(days=1))
    builder = builder.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    if host is not None:
        address = x509.IPAddress(ipaddress.ip_address(host)) if host[0].isdigit() else x509.DNSName(host)
        builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    return builder.sign(key, hashes.SHA256())


def _written(directory: Path, name: str, certificate: Any, key: Any) -> Pair:
    from cryptography.hazmat.primitives import serialization

    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    pair = Pair(directory / f"{name}.pem", directory / f"{name}.key")
    pair.certificate.write_bytes(certificate.public_bytes(encoding))
    pair.key.write_bytes(key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain))
    return pair
