"""HTTP to one registry: who we are, second attempts, redirects, and errors as this project's own.

Promises of `Transport.send`:
1. credentials go to the registry's own origin and to the token server it names, never along a redirect to another host;
2. plain http only to this machine;
3. 429, 5xx and cut connections are tried again with growing pauses, or the pause that the server asks for;
4. what remains is raised: DeniedError (401, 403), NotFoundError (404), ServiceError (everything else).
"""

from __future__ import annotations

import importlib.util
import json
import random
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, urlencode, urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError, NameResolutionError, SSLError

from scar.errors import DeniedError, NotFoundError, ScarError, ServiceError
from scar.package.credentials import Credentials

ATTEMPTS: Final = 6
MAX_PAUSE_S: Final = 30.0
_REDIRECTS: Final = 5
_REDIRECT_STATUS: Final = frozenset({301, 302, 303, 307, 308})
_TRANSIENT_STATUS: Final = frozenset({429, 500, 502, 503, 504})
_TIMEOUT: Final = urllib3.Timeout(connect=20, read=60)
_ERROR_BYTES: Final = 4096
_TOKEN_BYTES: Final = 1 << 20
_TOKEN_SPARE_S: Final = 10.0
_CHALLENGE_PARAMETER: Final = re.compile(r'(\w+)="([^"]*)"')

Body = Callable[[], Iterable[bytes]]


class CutError(ServiceError):
    """The connection broke, or the server asked for patience: the same request may succeed later."""

    def __init__(self, what: str, *, pause_s: float | None = None) -> None:
        super().__init__(what, fix="Check the network and run the command again; what has arrived is not sent twice.")
        self.pause_s = pause_s


@dataclass(frozen=True, slots=True)
class Request:
    """`scope` is what a token must allow; `body` is opened anew for each attempt and needs a Content-Length header."""

    method: str
    url: str
    scope: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body | None = None


@dataclass(frozen=True, slots=True)
class _Token:
    header: str
    expires: float


class Transport:
    """Requests to `base_url` (`https://host[:port]`), from any thread."""

    def __init__(
        self,
        base_url: str,
        credentials: Credentials | None,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.base_url = base_url
        self._origin = urlsplit(base_url)
        _refuse_plain_http(self._origin)
        self._credentials = credentials
        self._sleep, self._clock = sleep, clock
        self._http = _pool(self._origin.scheme)
        self._tokens: dict[str, _Token] = {}
        self._lock = threading.Lock()

    def send(self, request: Request, ok: Iterable[int], *, attempts: int = ATTEMPTS) -> urllib3.BaseHTTPResponse:
        """The answer, its body not yet read: the caller reads or releases it."""
        for attempt in range(1, attempts + 1):
            try:
                return self._once(request, frozenset(ok))
            except CutError as error:
                if attempt == attempts:
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
                if attempt == ATTEMPTS:
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
            ours = self._is_ours(url)
            token = self._token(request.scope) if ours else None
            response = self._exchange(request, url, token)
            if response.status in ok:
                return response
            if response.status == 401 and ours:
                if logged_in:
                    raise self._denied(f"it answers 401{_said(response)}")
                challenge = response.headers.get("WWW-Authenticate", "")
                discard(response)
                self._log_in(challenge, request.scope, token)
                logged_in = True
                continue
            location = response.headers.get("Location")
            if response.status in _REDIRECT_STATUS and location and redirects < _REDIRECTS:
                discard(response)
                url, redirects = urljoin(url, location), redirects + 1
                _refuse_plain_http(urlsplit(url))
                continue
            raise failure(response, f"{request.method} {_without_query(url)}")

    def _exchange(self, request: Request, url: str, token: _Token | None) -> urllib3.BaseHTTPResponse:
        headers = dict(request.headers)
        if token is not None:
            headers["Authorization"] = token.header
        try:
            return self._http.request(
                request.method,
                url,
                headers=headers,
                body=request.body() if request.body else None,
                redirect=False,
                retries=False,
                preload_content=False,
                timeout=_TIMEOUT,
            )
        except HTTPError as error:
            raise _unreachable(error, f"{request.method} {_without_query(url)}") from error

    def _is_ours(self, url: str) -> bool:
        parts = urlsplit(url)
        return (parts.scheme, parts.netloc) == (self._origin.scheme, self._origin.netloc)

    def _token(self, scope: str) -> _Token | None:
        with self._lock:
            token = self._tokens.get(scope) or self._tokens.get("")
        return token if token is not None and token.expires > self._clock() else None

    def _log_in(self, challenge: str, scope: str, refused: _Token | None) -> None:
        """Answer a 401: Basic for every scope from now on, or a token for this one."""
        bearer = re.search(r"\bBearer\s+(.*)", challenge, re.IGNORECASE)
        with self._lock:
            known = self._tokens.get(scope) or self._tokens.get("")
            if known is not None and known is not refused and known.expires > self._clock():
                return  # another thread has just logged in
            if bearer is not None:
                self._tokens[scope] = self._fetch_token(dict(_CHALLENGE_PARAMETER.findall(bearer[1])), scope)
            elif re.search(r"\bBasic\b", challenge, re.IGNORECASE):
                if self._credentials is None or refused is not None:
                    raise self._denied("it wants a user and a password")
                self._tokens[""] = _Token(self._credentials.basic, float("inf"))
            else:
                raise self._denied(f"it asks for {challenge.partition(' ')[0] or 'nothing'!r}, which is not known here")

    def _fetch_token(self, challenge: Mapping[str, str], scope: str) -> _Token:
        realm = urlsplit(challenge.get("realm", ""))
        _refuse_plain_http(realm)
        response = self._ask_for_token(realm, challenge.get("service", ""), scope)
        if response.status in (400, 401, 403):
            said = _said(response)
            raise self._denied(f"its token server answered {response.status}{said}")
        if response.status != 200:
            raise failure(response, f"GET {_without_query(realm.geturl())}")
        try:
            document = json.loads(_read(response, _TOKEN_BYTES, _without_query(realm.geturl())))
            token = document.get("token") or document["access_token"]
            lifetime_s = float(document.get("expires_in") or 60)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ServiceError(f"the token server {realm.netloc} gave no token") from error
        return _Token(f"Bearer {token}", self._clock() + max(lifetime_s - _TOKEN_SPARE_S, 1.0))

    def _ask_for_token(self, realm: SplitResult, service: str, scope: str) -> urllib3.BaseHTTPResponse:
        credentials, scopes = self._credentials, [("scope", item) for item in scope.split()]
        headers: dict[str, str] = {}
        method, url, body = "GET", realm.geturl(), None
        if credentials is not None and credentials.user is None:
            method = "POST"
            form = {"grant_type": "refresh_token", "service": service, "client_id": "scar", "scope": scope}
            body = urlencode({**form, "refresh_token": credentials.secret})
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        else:
            url += ("&" if realm.query else "?") + urlencode([("service", service), *scopes])
            if credentials is not None:
                headers["Authorization"] = credentials.basic
        try:
            return self._http.request(
                method,
                url,
                headers=headers,
                body=body,
                redirect=False,
                retries=False,
                preload_content=False,
                timeout=_TIMEOUT,
            )
        except HTTPError as error:
            raise _unreachable(error, f"the token server {realm.netloc}") from error

    def _denied(self, why: str) -> DeniedError:
        user = (
            f" as {self._credentials.user or 'the holder of a token'}" if self._credentials else " without credentials"
        )
        return DeniedError(
            f"the registry {self._origin.netloc} refuses us{user}: {why}",
            fix=f"Run `docker login {self._origin.netloc}`, or check the image's name.",
        )


def _unreachable(error: HTTPError, asked: str) -> ServiceError:
    """No answer at all. A name that nobody knows and a certificate that nobody trusts will not be better in a minute."""
    if isinstance(error, NameResolutionError | SSLError):
        return ServiceError(
            f"{asked}: {error}", fix="Check the registry's name, and the network's proxy and certificates."
        )
    return CutError(f"{asked}: {error}")


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
    what = f"{asked}: {status}{_said(response)}"
    if status in _TRANSIENT_STATUS:
        return CutError(what, pause_s=pause_s)
    if status in (401, 403):
        return DeniedError(what, fix="Check that these credentials may read (and for a push write) that repository.")
    if status == 404:
        return NotFoundError(
            what, fix="Check the image's name and tag; a private repository may hide itself like this."
        )
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
        return ": " + "; ".join(f"{item.get('code')} {item.get('message', '')}".strip() for item in document["errors"])
    except (ValueError, KeyError, TypeError, AttributeError):
        text = body.decode(errors="replace").strip()
        return f": {text[:200]}" if text and text.isprintable() else ""


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


def is_loopback(host: str) -> bool:
    return host in {"localhost", "::1"} or re.fullmatch(r"127(\.\d{1,3}){3}", host) is not None


def _refuse_plain_http(url: SplitResult) -> None:
    if url.scheme == "https" or (url.scheme == "http" and is_loopback(url.hostname or "")):
        return
    raise ServiceError(
        f"{_without_query(url.geturl())!r} is not an https address; plain http is used on this machine only"
    )


def _without_query(url: str) -> str:
    """Queries of redirects hold signatures: they stay out of messages."""
    return url.partition("?")[0]


def _pool(scheme: str) -> urllib3.PoolManager:
    if scheme == "http":
        return urllib3.PoolManager(maxsize=8)
    context = ssl.create_default_context()
    # An interpreter that was built elsewhere may not find this system's authorities; botocore brings its own list.
    botocore = importlib.util.find_spec("botocore")
    if botocore is not None and botocore.origin is not None:
        context.load_verify_locations(cafile=Path(botocore.origin).with_name("cacert.pem"))
    return urllib3.PoolManager(maxsize=8, ssl_context=context)
