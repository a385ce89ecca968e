"""The way of one request to an endpoint: whom it means, who may, its body, the function's run, the answer.

    no such API or stage: 403 Forbidden · no such route: 403 Missing Authentication Token · not signed, no key: 403
    ─► body (10 MB, 6 MB as an event: 413; not there in time: 408) ─► function, for at most 29 s (504; a URL as long as the function may run)
    ─► its answer · 502 if it failed or answered what is none · 500 if Lambda would not run it · 429 if it is throttled

AWS's documents say that API Gateway answers 500 where Lambda rejects an invocation (lambda/latest/dg/services-apigateway-errors); that is so
here. What a gateway itself throttles is 429: here, what finds no place in the line in time.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import unquote

from scar.limits import LAMBDA_SYNC_PAYLOAD_BYTES, MIB
from scar.local.functions import control
from scar.local.functions.configuration import CannotRunError, Outcome, StoppingError, ThrottledError
from scar.local.http import answers, callers, events, routing
from scar.local.http.answers import Answer, error
from scar.local.http.callers import TurnedAwayError
from scar.local.http.events import Who
from scar.local.http.requests import (
    BODY_S,
    HELD_BYTES,
    BadBodyError,
    Environ,
    Request,
    Room,
    TooLargeError,
    TooSlowError,
    discard,
    length_of,
    of,
    read_body,
    target_of,
)
from scar.local.http.routing import Api, Named, Url
from scar.local.iam.authority import Authority

StartResponse = Callable[..., Any]

API_BODY_BYTES: Final = 10 * MIB  # apigateway/latest/developerguide/limits
URL_BODY_BYTES: Final = 6 * MIB  # lambda/latest/dg/gettingstarted-limits
API_LIMIT_S: Final = 29.0  # apigateway/latest/developerguide/limits: integration timeout
AT_ONCE: Final = 16  # requests whose functions run; more of them wait in line
_SERVICE_HOST: Final = "apigateway.amazonaws.com"
_log = logging.getLogger("scar.local")


class Functions(Protocol):
    """What runs a function and waits for it (scar.local.functions)."""

    def invoke(self, function: Any, payload: bytes, *, client_context: str | None = None) -> Outcome: ...


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long and how much; tests of the bounds make them smaller."""

    api_limit_s: float = API_LIMIT_S
    body_s: float = BODY_S
    held_bytes: int = HELD_BYTES
    at_once: int = AT_ONCE


class Endpoints:
    """A WSGI application for the requests that `serves` says are its own. `authority` is given where IAM is enforced."""

    def __init__(
        self,
        functions: Functions,
        *,
        authority: Authority | None = None,
        bounds: Bounds | None = None,
        wake: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`wake` restores what an earlier daemon kept of one of moto's services."""
        self._functions, self._bounds, self._wake = functions, bounds or Bounds(), wake
        self._correcting, self._corrected = threading.Lock(), False
        self._enforced = authority is not None
        self._authority = authority or Authority()
        self._room = Room(self._bounds.held_bytes)
        self._line = threading.BoundedSemaphore(self._bounds.at_once)

    def prepare(self, service: str, environ: Environ) -> None:
        """Before moto's `service` is asked for anything."""
        if service != "apigateway":
            return
        raw_path = target_of(environ).partition("?")[0]
        if raw_path.startswith(
            "/tags/"
        ):  # moto's route takes an ARN for one step of a path: its slashes stay as they were sent
            environ["PATH_INFO"] = "/tags/" + unquote(raw_path.removeprefix("/tags/")).replace("/", "%2F")
        if self._corrected:
            return
        with self._correcting:
            if not self._corrected:
                from scar.local.http import api_hooks

                api_hooks.install()
                self._corrected = True

    def serves(self, environ: Environ) -> bool:
        return _named(environ) is not None

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        named = _named(environ)
        assert named is not None, "who asks has looked"
        request_id = str(uuid.uuid4())
        rest = False
        try:
            answer = self._answer(environ, named, request_id)
        except TurnedAwayError as turned_away:
            answer, rest = turned_away.answer, True
        except TooLargeError:
            answer, rest = _too_large(named), True
        except TooSlowError:
            answer, rest = error(408, "Request Timeout", "RequestTimeoutException"), True
        except BadBodyError:
            answer = error(400, "Bad Request", "BadRequestException")
        ids = [("x-amzn-RequestId", request_id)]
        if named.kind == "api":
            ids.append(("x-amz-apigw-id", request_id))
        headers = [*answer.headers, *ids, ("Content-Length", str(len(answer.body)))]
        start_response(f"{answer.status} {_reason(answer.status)}", headers)
        return _Answered(answer.body, (lambda: discard(environ)) if rest and _has_body(environ) else lambda: None)

    def _answer(self, environ: Environ, named: Named, request_id: str) -> Answer:
        if named.kind == "url":
            return self._of_url(environ, named, request_id)
        return self._of_api(environ, named, request_id)

    def _of_api(self, environ: Environ, named: Named, request_id: str) -> Answer:
        method = environ["REQUEST_METHOD"]
        self._wake("apigateway")
        if not routing.has_stage(named.id, named.stage):
            raise TurnedAwayError(error(403, "Forbidden", "ForbiddenException"))
        api = routing.route(named, method)
        if api is None:
            raise TurnedAwayError(error(403, "Missing Authentication Token", "MissingAuthenticationTokenException"))
        with self._room.held(length_of(environ, API_BODY_BYTES), self._bounds.body_s):
            request = of(environ, read_body(environ, API_BODY_BYTES, seconds=self._bounds.body_s))
            who = self._caller_of_api(request, api, named)
            event = _event(events.version_1(request, api, named.path, who, request_id))
            return self._invoke_for_api(api, method, named, event)

    def _caller_of_api(self, request: Request, api: Api, named: Named) -> Who:
        who = Who()
        if api.authorization == "AWS_IAM":
            who, principal = callers.signed_by(request, "execute-api", api.region, enforced=self._enforced)
            if self._enforced:
                where = f"{api.id}/{api.stage}/{request.method}{named.path.rstrip('/') or '/'}"
                arn = f"arn:aws:execute-api:{api.region}:{api.account}:{where}"
                callers.demand(self._authority, principal, "execute-api:Invoke", arn, {})
        elif api.authorization != "NONE":
            raise TurnedAwayError(error(403, "Unauthorized", "UnauthorizedException"))  # authorizers are not run here
        if api.key_required:
            key = request.header("x-api-key")
            if not key or not routing.key_opens(key, api):
                raise TurnedAwayError(error(403, "Forbidden", "ForbiddenException"))
            who = Who(who.account, who.access_key, who.arn, who.user, api_key=key)
        return who

    def _invoke_for_api(self, api: Api, method: str, named: Named, event: bytes) -> Answer:
        function = control.find(api.function, api.account, api.region) if api.function is not None else None
        if api.integration != "AWS_PROXY" or function is None:
            return _broken(500)
        arn = control.unqualified_arn(function)
        source = f"arn:aws:execute-api:{api.region}:{api.account}:{api.id}/{api.stage}/{method}{api.path}"
        refusal = self._authority.refusal_of_service(
            _SERVICE_HOST, "lambda:InvokeFunction", arn, source=source, account=api.account
        )
        if refusal is not None:
            _log.warning("API %s: %s (source %s)", api.id, refusal, source)
            return _broken(500)
        limit_s = min(api.limit_s or self._bounds.api_limit_s, self._bounds.api_limit_s)
        try:
            outcome = self._run(function, event, limit_s)
        except TimeoutError:
            return error(504, "Endpoint request timed out", "InternalServerErrorException")
        except _NoPlaceError:
            return error(429, "Too Many Requests", "TooManyRequestsException")
        except (ThrottledError, CannotRunError, StoppingError) as failed:
            _log.warning("API %s: %s was not run: %s", api.id, arn, failed)
            return _broken(500)
        if outcome.failed:
            return _broken(502)
        try:
            return answers.of_rest_api(outcome.payload)
        except answers.MalformedError:
            _log.warning("API %s: the answer of %s (request %s) is none of HTTP", api.id, arn, outcome.request_id)
            return _broken(502)

    def _of_url(self, environ: Environ, named: Named, request_id: str) -> Answer:
        url = routing.url(named)
        if url is None:
            raise TurnedAwayError(error(403, "Forbidden", "AccessDeniedException", key="Message"))
        arn = control.unqualified_arn(url.function)
        if url.auth == "NONE":
            callers.demand_public_url(self._authority, arn)
        with self._room.held(length_of(environ, URL_BODY_BYTES), self._bounds.body_s):
            request = of(environ, read_body(environ, URL_BODY_BYTES, seconds=self._bounds.body_s))
            who = Who()
            if url.auth != "NONE":
                who, principal = callers.signed_by(request, "lambda", url.function.region, enforced=self._enforced)
                if self._enforced:
                    for action, condition in (
                        ("lambda:InvokeFunctionUrl", {"lambda:functionurlauthtype": "AWS_IAM"}),
                        ("lambda:InvokeFunction", {"lambda:invokedviafunctionurl": "true"}),
                    ):
                        callers.demand(self._authority, principal, action, arn, condition)
            event = _event(events.version_2(request, url, named.path, who, request_id))
            return self._invoke_for_url(url, event)

    def _invoke_for_url(self, url: Url, event: bytes) -> Answer:
        try:
            outcome = self._run(url.function, event, None)
        except (ThrottledError, _NoPlaceError):
            return error(429, "Rate Exceeded.", "TooManyRequestsException", key="Message")
        except (CannotRunError, StoppingError) as failed:
            _log.warning("URL of %s: not run: %s", url.function.function_name, failed)
            return error(502, "Internal Server Error", "ServiceException", key="Message")
        try:
            if not outcome.failed:
                return answers.of_function_url(outcome.payload)
        except answers.MalformedError:
            _log.warning("URL of %s: the answer is none of HTTP", url.function.function_name)
        return Answer(502, (("Content-Type", "text/plain"),), b"Internal Server Error")

    def _run(self, function: Any, event: bytes, limit_s: float | None) -> Outcome:
        """Raises TimeoutError when the caller's time is over; the run itself goes on, as on AWS."""
        began = time.monotonic()
        if not self._line.acquire(timeout=limit_s if limit_s is not None else API_LIMIT_S):
            raise _NoPlaceError
        if limit_s is None or function.timeout <= limit_s - (time.monotonic() - began):
            try:
                return self._functions.invoke(function, event)
            finally:
                self._line.release()
        left_s = max(0.0, limit_s - (time.monotonic() - began))
        return _Run(self._functions, function, event, self._line).within(left_s)


class _NoPlaceError(Exception):
    """Too many are being served."""


class _Run:
    """A run on a thread of its own, which may be left alone."""

    def __init__(self, functions: Functions, function: Any, event: bytes, line: threading.BoundedSemaphore) -> None:
        self._functions, self._function, self._event, self._line = functions, function, event, line
        self._ended = threading.Event()
        self._outcome: Outcome | None = None
        self._failure: BaseException | None = None
        threading.Thread(target=self._go, name="http run", daemon=True).start()

    def within(self, seconds: float) -> Outcome:
        if not self._ended.wait(seconds):
            raise TimeoutError
        if self._failure is not None:
            raise self._failure
        assert self._outcome is not None, "it ended one way or the other"
        return self._outcome

    def _go(self) -> None:
        try:
            self._outcome = self._functions.invoke(self._function, self._event)
        except BaseException as failure:  # noqa: BLE001 - handed to whoever waits
            self._failure = failure
        finally:
            self._line.release()
            self._ended.set()


class _Answered:
    """A response body that does one thing more when the server is done with it."""

    def __init__(self, body: bytes, then: Callable[[], None]) -> None:
        self._body, self._then = body, then

    def __iter__(self) -> Iterator[bytes]:
        yield self._body

    def close(self) -> None:
        self._then()


def _named(environ: Environ) -> Named | None:
    return routing.named(str(environ.get("HTTP_HOST", "")), target_of(environ).partition("?")[0])


def _event(document: dict[str, Any]) -> bytes:
    """Raises TooLargeError for what Lambda does not take as one event: a body grows by a third when it is binary."""
    payload = json.dumps(document).encode()
    if len(payload) > LAMBDA_SYNC_PAYLOAD_BYTES:
        raise TooLargeError
    return payload


def _too_large(named: Named) -> Answer:
    if named.kind == "api":
        return error(413, "Request Too Long", "RequestTooLongException")
    return error(413, "Request Entity Too Large", "RequestEntityTooLargeException", key="Message")


def _broken(status: int) -> Answer:
    return error(status, "Internal server error", "InternalServerErrorException")


def _has_body(environ: Environ) -> bool:
    return bool(environ.get("wsgi.input_terminated")) or (environ.get("CONTENT_LENGTH") or "0") != "0"


def _reason(status: int) -> str:
    from http import HTTPStatus

    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
