"""HTTP to one registry: who we are, second attempts, redirects, and errors as this project's own.

Promises of `Transport.send`:
1. credentials go to the registry's own origin and to the token server it names, never along a redirect to another host;
2. plain http only to this machine;
3. 429, 5xx and cut connections are tried again with growing pauses, or the pause that the server asks for;
4. a token or password that has run out is replaced, in the middle of a push too;
5. what remains is raised: DeniedError (401, 403), NotFoundError (404), ConflictError (a tag that cannot be moved), ServiceError
   (everything else); no message holds a credential or the query of an address.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import SplitResult, urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError, NameResolutionError, ProxyError, SSLError

from scar.errors import ConflictError, DeniedError, NotFoundError, ScarError, ServiceError
from scar.package.registry.credentials import Credentials
from scar.package.registry.login import Login, Renew, TokenAnswer
from scar.package.registry.network import Connections, Network, is_loopback

ATTEMPTS: Final = 6
_REFUSED_ATTEMPTS: Final = 3
_OBJECT: Final = re.compile(
    r"^HTTPS?Connection(?:Pool)?\([^)]*\): "
)  # urllib3's own name for what the address says as well
MAX_PAUSE_S: Final = 30.0
_REDIRECTS: Final = 5
_REDIRECT_STATUS: Final = frozenset({301, 302, 303, 307, 308})
_TRANSIENT_STATUS: Final = frozenset({429, 500, 502, 503, 504})
_CONNECT_S: Final = 20.0
_ANSWER_S: Final = 60.0
_ERROR_BYTES: Final = 4096
_TOKEN_BYTES: Final = 1 << 20
# Amazon's registries say it in words: 403 (private) and 400 (public) instead of a 401 that asks for a new login.
_EXPIRED: Final = re.compile(r"token (has|is) expired", re.IGNORECASE)
_IMMUTABLE: Final = re.compile(r"immutable", re.IGNORECASE)
_DISK_FULL: Final = re.compile(r"no space left on|disk quota exceeded", re.IGNORECASE)

Body = Callable[[], Iterable[bytes]]


class CutError(ServiceError):
    """The connection broke, or the server asked for patience: the same request may succeed later."""

    def __init__(
        self, what: str, *, pause_s: float | None = None, fix: str | None = None, attempts: int = ATTEMPTS
    ) -> None:
        again = "Check the network and run the command again; what has arrived is not sent twice."
        super().__init__(what, fix=fix or again)
        self.pause_s = pause_s
        self.attempts = attempts


@dataclass(frozen=True, slots=True)
class Request:
    """`scope` is what a token must allow; `body` is opened anew for each attempt and needs a Content-Length header.

    `patience_s` is how long the server may be silent.
    """

    method: str
    url: str
    scope: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body | None = None
    patience_s: float = _ANSWER_S


class Transport:
    """Requests to `base_url` (`https://host[:port]`), from any thread."""

    def __init__(
        self,
        base_url: str,
        credentials: Credentials | None,
        *,
        renew: Renew | None = None,
        network: Network | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.base_url = base_url
        self._origin = urlsplit(base_url)
        _refuse_plain_http(self._origin)
        self._sleep = sleep
        self._connections = Connections(network or Network(), self._origin.netloc)
        self._login = Login(self._origin.netloc, credentials, ask=self._ask_for_token, clock=clock, renew=renew)

    def greet(self) -> None:
        """Hear how to log in before many requests are sent at once. What goes wrong here is told by the first of them."""
        try:
            response = self._request("GET", f"{self.base_url}/v2/", {}, None, _ANSWER_S)
        except CutError:
            return
        challenge = response.headers.get("WWW-Authenticate", "") if response.status == 401 else ""
        discard(response)
        self._login.heard(challenge)

    def send(self, request: Request, ok: Iterable[int], *, attempts: int = ATTEMPTS) -> urllib3.BaseHTTPResponse:
        """The answer, its body not yet read: the caller reads or releases it."""
        for attempt in range(1, attempts + 1):
            try:
                return self._once(request, frozenset(ok))
            except CutError as error:
                if attempt >= min(attempts, error.attempts):
                    raise
                self.pause(attempt, error)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def fetch(self, request: Request, limit: int) -> tuple[urllib3.BaseHTTPResponse, bytes]:
        """A whole body of at most `limit` bytes, as it was sent."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                response = self._once(request, frozenset((200,)))
                return response, _read(response, limit, _without_query(request.url))
            except CutError as error:
                if attempt >= error.attempts:
                    raise
                self.pause(attempt, error)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def pause(self, attempt: int, error: CutError) -> None:
        """Wait before attempt + 1: as long as the server asked for, else about 1, 2, 4 … seconds."""
        jitter = random.uniform(0.5, 1.0)  # noqa: S311 — spreads clients in time, guards no secret
        wanted = error.pause_s if error.pause_s is not None else jitter * 2 ** (attempt - 1)
        self._sleep(min(wanted, MAX_PAUSE_S))

    def _once(self, request: Request, ok: frozenset[int]) -> urllib3.BaseHTTPResponse:
        url, redirects, logged_in = request.url, 0, False
        while True:
            ours = _origin_of(split(url)) == _origin_of(self._origin)
            login = self._login.header(request.scope) if ours else None
            response = self._exchange(request, url, login)
            if response.status in ok:
                return response
            if response.status == 401 and ours:
                if logged_in:
                    raise self._login.denied(f"it answers 401{_said(response)}")
                challenge = response.headers.get("WWW-Authenticate", "")
                discard(response)
                self._login.answer(challenge, request.scope, login)
                logged_in = True
                continue
            location = response.headers.get("Location")
            if response.status in _REDIRECT_STATUS and location and redirects < _REDIRECTS:
                discard(response)
                url, redirects = resolved(url, location), redirects + 1
                continue
            error = failure(response, f"{request.method} {_without_query(url)}")
            if login is not None and not logged_in and _EXPIRED.search(error.what):
                self._login.expired(request.scope, login)
                logged_in = True
                continue
            raise error

    def _exchange(self, request: Request, url: str, login: str | None) -> urllib3.BaseHTTPResponse:
        headers = {**request.headers, **({"Authorization": login} if login is not None else {})}
        body = request.body() if request.body else None
        return self._request(request.method, url, headers, body, request.patience_s)

    def _request(
        self, method: str, url: str, headers: Mapping[str, str], body: Iterable[bytes] | str | None, patience_s: float
    ) -> urllib3.BaseHTTPResponse:
        try:
            return self._connections.to(url).request(
                method,
                url,
                headers=headers,
                body=body,
                redirect=False,
                retries=False,
                preload_content=False,
                timeout=urllib3.Timeout(connect=_CONNECT_S, read=patience_s),
            )
        except HTTPError as error:
            raise _unreachable(error, f"{method} {_without_query(url)}") from error

    def _ask_for_token(self, method: str, url: str, headers: Mapping[str, str], body: str | None) -> TokenAnswer:
        _refuse_plain_http(split(url))
        response = self._request(method, url, headers, body, _ANSWER_S)
        if response.status == 200:
            return TokenAnswer(200, _read(response, _TOKEN_BYTES, _without_query(url)))
        if response.status in (400, 401, 403):
            return TokenAnswer(response.status, _said(response).encode())
        raise failure(response, f"{method} {_without_query(url)}")


def split(url: str) -> SplitResult:
    """An address that somebody else wrote; raises ServiceError where it is none."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ServiceError(f"{_without_query(url)!r}, which the registry names, is not an address") from None
    return parts


def resolved(url: str, location: str) -> str:
    """Where a Location header of the answer to `url` leads."""
    try:
        place = urljoin(url, location)
    except ValueError:
        raise ServiceError(f"{_without_query(location)!r}, which the registry names, is not an address") from None
    _refuse_plain_http(split(place))
    return place


def _origin_of(url: SplitResult) -> tuple[str, str, int | None]:
    return url.scheme, (url.hostname or "").lower(), url.port or {"http": 80, "https": 443}.get(url.scheme)


def _unreachable(error: HTTPError, asked: str) -> ServiceError:
    """No answer at all. A name that nobody knows and a certificate that nobody trusts will not be better in a minute."""
    said = _OBJECT.sub("", str(error))
    if isinstance(error, ProxyError) and (
        refusal := re.search(r"Tunnel connection failed: (4\d\d[^'\")]*)", str(error))
    ):
        return ServiceError(
            f"{asked}: the proxy refuses the connection: {refusal[1].strip()}",
            fix="Check HTTPS_PROXY (its user and password, too) and NO_PROXY.",
        )
    if isinstance(error, NameResolutionError | SSLError):
        return ServiceError(
            f"{asked}: {said}",
            fix="Check the registry's name, and the network's proxy and certificates (SSL_CERT_FILE, or Docker's certs.d).",
        )
    # Nobody listens: perhaps a server that is just starting again.
    refused = isinstance(error.__cause__, ConnectionRefusedError)
    return CutError(f"{asked}: {said}", attempts=_REFUSED_ATTEMPTS if refused else ATTEMPTS)


def discard(response: urllib3.BaseHTTPResponse) -> None:
    """End an answer whose body says nothing; a short one leaves its connection for the next request."""
    try:
        response.read(_ERROR_BYTES, decode_content=False)
    except HTTPError:
        pass  # the connection is closed below, which is all that is wanted
    finally:
        response.close()


def failure(response: urllib3.BaseHTTPResponse, asked: str) -> ScarError:
    """The error for an answer that nobody wanted; reads and ends the answer."""
    status = response.status
    pause_s = _retry_after(response.headers.get("Retry-After"))
    said = _said(response)
    what = f"{asked}: {status}{said}"
    if status == 507 or _DISK_FULL.search(said):
        return ServiceError(what, fix="The registry's disk is full: make room there, then run the command again.")
    if status == 429:
        limited = "The registry limits how often it is asked: log in (`docker login`) for a higher limit, or try later."
        return CutError(what, pause_s=pause_s, fix=limited)
    if status in _TRANSIENT_STATUS:
        return CutError(what, pause_s=pause_s)
    if 400 <= status < 500 and _IMMUTABLE.search(said):
        return ConflictError(what, fix="The tag names another image and may not be moved: use another tag, or none.")
    if status in (401, 403):
        return DeniedError(what, fix="Check that these credentials may read (and for a push write) that repository.")
    if status == 404:
        return NotFoundError(
            what, fix="Check the image's name and tag; a private repository may hide itself like this."
        )
    if status == 413:
        return ServiceError(what, fix="The registry, or a proxy before it, takes no layers of that size.")
    return ServiceError(what)


def _said(response: urllib3.BaseHTTPResponse) -> str:
    """What a registry's error document says, as `: CODE message`, or the start of whatever it sent."""
    try:
        body = response.read(_ERROR_BYTES)
    except HTTPError:
        body = b""
    finally:
        response.close()
    try:
        document: Any = json.loads(body)
        return ": " + "; ".join(map(_complaint, document["errors"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        text = body.decode(errors="replace").strip()
        return f": {text[:200]}" if text and text.isprintable() else ""


def _complaint(item: Mapping[str, Any]) -> str:
    """One entry of an error document; `detail` where it is a sentence (a disk that is full is told there)."""
    detail = item.get("detail")
    words = [item.get("code"), item.get("message"), detail[:300] if isinstance(detail, str) else None]
    return " ".join(str(word) for word in words if word)


def _retry_after(value: str | None) -> float | None:
    """Seconds, from either form of the header; None where it is absent or unreadable."""
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except ValueError:
        return None


def _read(response: urllib3.BaseHTTPResponse, limit: int, url: str) -> bytes:
    try:
        content: bytes = response.read(limit + 1, decode_content=False)
    except HTTPError as error:
        raise CutError(f"{url}: {error}") from error
    finally:
        response.close()
    if len(content) > limit:
        raise ServiceError(f"{url}: longer than {limit} bytes")
    announced = response.headers.get("Content-Length", "")
    if announced.isdigit() and len(content) < int(announced):
        raise CutError(f"{url}: cut after {len(content)} of {announced} bytes")
    return content


def _refuse_plain_http(url: SplitResult) -> None:
    if url.scheme == "https" or (url.scheme == "http" and is_loopback(url.hostname or "")):
        return
    raise ServiceError(
        f"{_without_query(url.geturl())!r} is not an https address; plain http is used on this machine only"
    )


def _without_query(url: str) -> str:
    """Queries of redirects hold signatures: they stay out of messages."""
    return url.partition("?")[0]
