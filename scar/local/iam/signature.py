"""Is a request signed with the secret of the key that it names? AWS's Signature Version 4, in the header or in the query.

Source: IAM/latest/UserGuide/reference_sigv-create-signed-request; S3 takes the path as it is on the wire and a digest that the client tells.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs, quote

_HEADER: Final = re.compile(
    r"AWS4-HMAC-SHA256\s+Credential=(?P<credential>[^,\s]+),\s*SignedHeaders=(?P<signed>[^,\s]+),\s*Signature=(?P<signature>[0-9a-f]{64})\s*"
)
_EMPTY: Final = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class Wire:
    """A request's parts as they went over the wire. `headers` have lower-case names and latin-1 text; `body` is None where it was not read."""

    method: str
    raw_path: str
    raw_query: str
    headers: Mapping[str, str]
    body: bytes | None


@dataclass(frozen=True, slots=True)
class Signed:
    """What a signature says: the key's `scope` (date, region, service), and which headers it covers. `presigned` has no header for it."""

    key: str
    scope: tuple[str, str, str]
    signed_headers: Sequence[str]
    signature: str
    time: str
    token: str | None
    presigned: bool
    expires_s: float | None = None


def read(wire: Wire) -> Signed | None:
    """None for a request that carries no signature of this version, or none that can be read."""
    if found := _HEADER.fullmatch(wire.headers.get("authorization", "")):
        query: Mapping[str, str] = {}
        credential, headers, signature = found["credential"], found["signed"], found["signature"]
        time = wire.headers.get("x-amz-date", "")
        token = wire.headers.get("x-amz-security-token")
    else:
        query = {key: values[0] for key, values in parse_qs(wire.raw_query, keep_blank_values=True).items()}
        if not {"X-Amz-Credential", "X-Amz-SignedHeaders", "X-Amz-Signature"} <= query.keys():
            return None
        credential, headers, signature = (
            query[f"X-Amz-{name}"] for name in ("Credential", "SignedHeaders", "Signature")
        )
        time = query.get("X-Amz-Date", "")
        token = query.get("X-Amz-Security-Token")
    parts = credential.rsplit("/", 4)
    if len(parts) != 5 or parts[4] != "aws4_request":
        return None
    expires = query.get("X-Amz-Expires", "")
    return Signed(
        parts[0], (parts[1], parts[2], parts[3]), headers.split(";"), signature, time, token,
        presigned=bool(query), expires_s=float(expires) if expires.isdecimal() else None,
    )  # fmt: skip


def fits(signed: Signed, wire: Wire, secret: str) -> bool:
    """Whether the signature is the one that this secret makes of this request."""
    date, region, service = signed.scope
    text = "\n".join(
        ["AWS4-HMAC-SHA256", signed.time, f"{date}/{region}/{service}/aws4_request", _canonical_digest(signed, wire)]
    )
    key = f"AWS4{secret}".encode()
    for word in (date, region, service, "aws4_request"):
        key = hmac.new(key, word.encode(), "sha256").digest()
    return hmac.compare_digest(hmac.new(key, text.encode(), "sha256").hexdigest(), signed.signature)


def is_over(signed: Signed, now: datetime.datetime) -> bool:
    """Whether a presigned address has had its time."""
    if not signed.presigned or signed.expires_s is None:
        return False
    try:
        made = datetime.datetime.strptime(signed.time, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)
    except ValueError:
        return True
    return now > made + datetime.timedelta(seconds=signed.expires_s)


def _canonical_digest(signed: Signed, wire: Wire) -> str:
    s3 = signed.scope[2] == "s3"
    headers = "".join(f"{name}:{' '.join(wire.headers.get(name, '').split())}\n" for name in signed.signed_headers)
    parts = [
        wire.method,
        wire.raw_path if s3 else quote(_normal(wire.raw_path), safe="/~"),
        _canonical_query(wire.raw_query, without_signature=signed.presigned),
        headers,
        ";".join(signed.signed_headers),
        _payload(signed, wire, s3=s3),
    ]
    return hashlib.sha256("\n".join(parts).encode("latin-1")).hexdigest()


def _payload(signed: Signed, wire: Wire, *, s3: bool) -> str:
    """S3 takes the client's word, which is verified when the body is received; a body that was read is believed over any word."""
    told = wire.headers.get("x-amz-content-sha256")
    if s3 and told is not None:
        return told
    if signed.presigned and s3:
        return "UNSIGNED-PAYLOAD"
    if told == "UNSIGNED-PAYLOAD":
        return told
    return _EMPTY if wire.body is None else hashlib.sha256(wire.body).hexdigest()


def _canonical_query(raw: str, *, without_signature: bool) -> str:
    pairs = []
    for pair in raw.split("&") if raw else ():
        key, _, value = pair.partition("=")
        if not (without_signature and key == "X-Amz-Signature"):
            pairs.append((key, value))
    return "&".join(f"{key}={value}" for key, value in sorted(pairs))


def _normal(path: str) -> str:
    if not path:
        return "/"
    normal = posixpath.normpath(path)
    normal = f"/{normal.lstrip('/')}"
    return f"{normal}/" if path.endswith("/") and normal != "/" else normal
