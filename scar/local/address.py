"""Whom does a request address: which service, which bucket, which key? Read from headers and path, before moto sees it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

Environ = dict[str, Any]

_SCOPE: Final = re.compile(r"Credential=([^/,\s]+)/\d{8}/([^/,\s]*)/([^/,\s]+)/aws4_request")
_QUERY_SCOPE: Final = re.compile(
    r"X-Amz-Credential=([^&]+?)(?:/|%2F)\d{8}(?:/|%2F)([^&]*?)(?:/|%2F)([^&]+?)(?:/|%2F)aws4_request", re.IGNORECASE
)
_LOCAL_NAMES: Final = ("127.0.0.1", "localhost", "[::1]")
_VIRTUAL: Final = re.compile(
    r"(?P<bucket>.+?)\.(?:s3[.-][a-z0-9.-]*amazonaws\.com|s3\.amazonaws\.com|s3\.localhost|localhost)"
)


def is_local_name(host: str) -> bool:
    """Whether a Host header names us. A page that had its own name pointed at 127.0.0.1 (DNS rebinding) fails here."""
    name = _without_port(host)
    return name in _LOCAL_NAMES or name.endswith((".localhost", ".amazonaws.com", ".on.aws"))


def is_own_address(host: str, address: str) -> bool:
    """Whether a Host header is the very address that a request came in at: no name at all, so nobody pointed it here."""
    return address != "" and _without_port(host) == address


def _without_port(host: str) -> str:
    name = host.lower()
    if name.endswith("]"):
        return name
    return name.rpartition(":")[0] if re.search(r":\d*$", name) else name


def is_local_origin(origin: str | None) -> bool:
    """Whether a request comes from no page at all, or from one of this machine. A browser lets any site POST anywhere unasked."""
    if origin is None:
        return True
    parts = urlsplit(origin)
    return (
        parts.scheme in ("http", "https")
        and is_local_name(parts.netloc)
        and not _without_port(parts.netloc).endswith((".amazonaws.com", ".on.aws"))
    )


@dataclass(frozen=True, slots=True)
class Caller:
    """What the signature says of a request; the signature itself is not checked."""

    access_key: str | None
    region: str | None
    service: str | None


def caller(environ: Environ) -> Caller:
    found = _SCOPE.search(environ.get("HTTP_AUTHORIZATION", "")) or _QUERY_SCOPE.search(environ.get("QUERY_STRING", ""))
    if found:
        return Caller(found[1], found[2], found[3].lower())
    return Caller(None, None, None)


def is_s3(environ: Environ, signed_for: str | None) -> bool:
    """S3 also takes unsigned requests, old signatures and browser forms; every other service's are signed or carry an Action."""
    if signed_for is not None:
        return signed_for == "s3"
    if "HTTP_X_AMZ_TARGET" in environ:
        return False
    path = environ.get("PATH_INFO", "")
    if path.startswith(("/moto-api", "/latest/meta-data/", "/latest/api/")):
        return False
    if "Signature=" in environ.get("QUERY_STRING", "") or environ["REQUEST_METHOD"] != "POST":
        return "Action=" not in str(environ.get("QUERY_STRING", ""))
    return str(environ.get("CONTENT_TYPE", "")).startswith("multipart/form-data")


@dataclass(frozen=True, slots=True)
class S3Address:
    """An S3 request's bucket, key and sub-resources (`acl`, `tagging`, `uploadId` …); empty where there is none."""

    bucket: str
    key: str
    query: dict[str, list[str]]

    def asks_for(self, *names: str) -> bool:
        return any(name in self.query for name in names)


def s3_address(environ: Environ) -> S3Address:
    path = environ.get("PATH_INFO", "").encode("latin-1").decode("utf-8", "replace").removeprefix("/")
    query = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
    host = environ.get("HTTP_HOST", "").lower().rpartition(":")[0] or environ.get("HTTP_HOST", "").lower()
    if (virtual := _VIRTUAL.fullmatch(host)) and not virtual["bucket"].startswith("s3."):
        return S3Address(virtual["bucket"], path, query)
    bucket, _, key = path.partition("/")
    return S3Address(bucket, key, query)
