"""Blobs of a registry that needs no credentials: the OCI distribution protocol's one GET, with an anonymous token where asked for.

Plain http is for this machine only. urllib3 is botocore's, and so are the certificates that it trusts.
"""

from __future__ import annotations

import ipaddress
import json
import re
from typing import Final
from urllib.parse import urlencode, urljoin, urlsplit

import urllib3
from botocore.httpsession import get_cert_path
from urllib3.exceptions import HTTPError

from faassupervisor.contract import RootLayer
from faassupervisor.errors import StageInError

_TIMEOUT: Final = urllib3.Timeout(connect=10, read=30)
_REDIRECTS: Final = 5
_TOKEN_BYTES: Final = 1 << 20
_SKIPPED_BYTES: Final = 1 << 16
_CHALLENGE: Final = re.compile(r'([a-z]+)="([^"]*)"')
_WORTH_ASKING_AGAIN: Final = frozenset({408, 429, 500, 502, 503, 504})


class _BusyError(Exception):
    """The server cannot answer now."""


class Registry:
    """The repository at `https://host/v2/repository`; see `faassupervisor.roots.remote` for what a source promises."""

    broken: tuple[type[Exception], ...] = (HTTPError, OSError, _BusyError)

    def __init__(self, repository: str) -> None:
        self._repository = repository.rstrip("/")
        self._pool = urllib3.PoolManager(cert_reqs="CERT_REQUIRED", ca_certs=get_cert_path(True), retries=False)
        self._token: str | None = None

    def open(self, layer: RootLayer, start: int) -> urllib3.BaseHTTPResponse:
        url = f"{self._repository}/blobs/{layer.digest}"
        answer = self._get(url, start)
        if answer.status == 401:
            challenge = answer.headers.get("WWW-Authenticate", "")
            answer.close()
            self._token = self._ask_for_token(challenge)
            answer = self._get(url, start)
        if answer.status in _WORTH_ASKING_AGAIN:
            answer.close()
            raise _BusyError(f"{self._repository} answers with status {answer.status}")
        if answer.status not in {200, 206}:
            answer.close()
            raise StageInError(f"layer {layer.digest} of the image cannot be read: {self._repository} {_why(answer)}")
        if start and answer.status == 200:  # it sends everything again
            while start:
                chunk = answer.read(min(_SKIPPED_BYTES, start), decode_content=False)
                if not chunk:
                    raise _BusyError("the connection ended")
                start -= len(chunk)
        return answer

    def _get(self, url: str, start: int = 0) -> urllib3.BaseHTTPResponse:
        """Follows redirects, as registries answer with where their store is; the token is for the registry alone."""
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        for _ in range(_REDIRECTS):
            _expect_private(url)
            answer = self._pool.request(
                "GET", url, headers=headers, preload_content=False, redirect=False, timeout=_TIMEOUT
            )
            location = answer.headers.get("Location")
            if answer.status not in {301, 302, 303, 307, 308} or not location:
                return answer
            answer.close()
            target = urljoin(url, location)
            if urlsplit(target)[:2] != urlsplit(url)[:2]:
                headers.pop("Authorization", None)
            url = target
        raise StageInError(f"{self._repository} redirects more than {_REDIRECTS} times")

    def _ask_for_token(self, challenge: str) -> str:
        scheme, _, rest = challenge.partition(" ")
        asked = dict(_CHALLENGE.findall(rest))
        if scheme.lower() != "bearer" or "realm" not in asked:
            raise StageInError(
                f"{self._repository} asks for credentials; a function without ECR reads public images only"
            )
        realm = asked.pop("realm")
        self._token = None
        joined = f"{realm}{'&' if '?' in realm else '?'}{urlencode({k: asked[k] for k in ('service', 'scope') if k in asked})}"
        answer = self._get(joined)
        with answer:
            if answer.status in _WORTH_ASKING_AGAIN:
                raise _BusyError(f"{urlsplit(realm).netloc} answers with status {answer.status}")
            if answer.status != 200:
                raise StageInError(f"{self._repository} gives no anonymous access: its token server {_why(answer)}")
            try:
                told = json.loads(answer.read(_TOKEN_BYTES))
                return str(told["token"] if "token" in told else told["access_token"])
            except (ValueError, KeyError, TypeError) as error:
                raise StageInError(f"{self._repository}: its token server's answer holds no token") from error


def _why(answer: urllib3.BaseHTTPResponse) -> str:
    match answer.status:
        case 401 | 403:
            return "refuses access without credentials"
        case 404:
            return "does not have it"
        case status:
            return f"answers with status {status}"


def _expect_private(url: str) -> None:
    """Only https, or http that does not leave this machine."""
    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname or "")):
        return
    raise StageInError(f"{parts.scheme}://{parts.netloc} is not asked for the image: it takes https")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
