"""In which ways can an answer of AWS go wrong? A word for each, and what it does to an answer.

A fault is data. `instead` says what comes without the request being forwarded, `spoil` what becomes of an answer that came.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tests.support.operations import Request, operations, protocol


@dataclass(frozen=True)
class Refuse:
    """Not forwarded: an error answer with `status` and AWS's error `code`."""

    status: int
    code: str = "InternalFailure"
    message: str = "as the test wants"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Throttle:
    """Not forwarded: too many requests, as the service itself says it."""


@dataclass(frozen=True)
class Elsewhere:
    """Not forwarded unless it is signed for `region`: the bucket lies there, says a 301."""

    region: str


@dataclass(frozen=True)
class Drop:
    """Not forwarded: the connection ends without an answer."""


@dataclass(frozen=True)
class Lose:
    """Forwarded and applied; `then` is called, and the connection ends without an answer."""

    then: Callable[[], None] = field(default=lambda: None, repr=False)


@dataclass(frozen=True)
class Cut:
    """Forwarded and applied; of the answer's body only the first `after` bytes come, though its whole length was told. Negative: all but so many."""

    after: int = 0


@dataclass(frozen=True)
class Flip:
    """Forwarded and applied; one bit of the answer's body is another, in its byte `at` (negative: from the end)."""

    at: int = 0


@dataclass(frozen=True)
class Slow:
    """Forwarded after `seconds`."""

    seconds: float


@dataclass(frozen=True)
class Answer:
    """Not forwarded: this document, with success."""

    document: Mapping[str, Any]


@dataclass(frozen=True)
class Empty:
    """Forwarded and applied; the answer has its status and no body."""


@dataclass(frozen=True)
class Stale:
    """What the same request was answered the time before, however long ago; the first of its kind is forwarded."""


@dataclass(frozen=True)
class ErrorInside:
    """An error in an answer of 200, as S3 sends it for what takes long; `applied` says whether the request was forwarded."""

    code: str = "InternalError"
    applied: bool = False


@dataclass(frozen=True)
class Alter:
    """Forwarded; the answer's JSON document is what `change` makes of it."""

    change: Callable[[Any], Any]


@dataclass(frozen=True)
class Headers:
    """Forwarded; these headers of the answer are others, or gone (None). `Content-Length` may lie, too."""

    change: Mapping[str, str | None]


@dataclass(frozen=True)
class OtherPath:
    """Forwarded under another path: another object answers."""

    path: str


@dataclass(frozen=True)
class Then:
    """Forwarded; `call` is called before the answer goes back."""

    call: Callable[[], None]


Fault = (
    Refuse | Throttle | Elsewhere | Drop | Lose | Cut | Flip | Slow | Answer | Empty | Stale | ErrorInside | Alter
    | Headers | OtherPath | Then
)  # fmt: skip

EXPIRED = Refuse(400, "ExpiredToken", "The provided token has expired.")
SKEWED = Refuse(
    403, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large."
)
WRONG_ETAG = Headers({"ETag": '"00000000000000000000000000000000"'})
UNAVAILABLE = Refuse(503, "ServiceUnavailable", "Service is unable to handle request.")


@dataclass(frozen=True)
class Reply:
    """An answer on its way. Of the body only the first `sent` bytes come (None: all). `length` is told as its length when given."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    sent: int | None = None
    length: str | None = None


def instead(fault: Fault | None, request: Request, before: Reply | None) -> Reply | None:
    """What is answered without forwarding; None when it is forwarded. `before` is what the same request was answered last."""
    match fault:
        case Refuse():
            return refusal(request.service, fault)
        case Throttle():
            return refusal(request.service, throttled(request.service))
        case Elsewhere(region) if request.region != region:
            # Source: AmazonS3/latest/API/ErrorResponses (PermanentRedirect), and botocore's S3RegionRedirector, which reads the header
            moved = Refuse(301, "PermanentRedirect", "Address it there.", {"x-amz-bucket-region": region})
            return refusal(request.service, moved)
        case Answer(document):
            return Reply(200, {"Content-Type": "application/json"}, json.dumps(document).encode())
        case ErrorInside(code, applied=False):
            return _error_inside(request.service, code)
        case Stale():
            return before
        case _:
            return None


def spoil(fault: Fault | None, request: Request, reply: Reply) -> Reply:
    """What becomes of an answer that came."""
    match fault:
        case Cut(after):
            return replace(reply, sent=max(0, after if after >= 0 else len(reply.body) + after))
        case Flip(at) if -len(reply.body) <= at < len(reply.body):
            body = bytearray(reply.body)
            body[at] ^= 1
            return replace(reply, body=bytes(body))
        case Empty():
            return replace(reply, body=b"")
        case Alter(change):
            return replace(reply, body=json.dumps(change(json.loads(reply.body))).encode())
        case Headers(change):
            asked = {name.lower(): value for name, value in change.items()}
            kept = {name: value for name, value in reply.headers.items() if name.lower() not in asked}
            added = {name: value for name, value in change.items() if value is not None}
            length = {name.lower(): value for name, value in added.items()}.pop("content-length", None)
            added = {name: value for name, value in added.items() if name.lower() != "content-length"}
            return replace(reply, headers={**kept, **added}, length=length)
        case ErrorInside(code):
            return _error_inside(request.service, code)
        case _:
            return reply


def throttled(service: str) -> Refuse:
    """Source: AmazonS3/latest/API/ErrorResponses (SlowDown); general/latest/gr/api-retries"""
    if service == "s3":
        return Refuse(503, "SlowDown", "Please reduce your request rate.")
    if operations(service) and protocol(service) in {"json", "rest-json"}:
        return Refuse(429 if protocol(service) == "rest-json" else 400, "TooManyRequestsException", "Rate exceeded")
    return Refuse(503 if protocol(service) == "ec2" else 400, "Throttling", "Rate exceeded")


def refusal(service: str, fault: Refuse) -> Reply:
    """An error in the words of the service's protocol."""
    if operations(service) and protocol(service) in {"json", "rest-json"}:
        document = json.dumps({"__type": fault.code, "message": fault.message}).encode()
        headers = {"Content-Type": "application/json", "x-amzn-ErrorType": fault.code}
        return Reply(fault.status, {**headers, **fault.headers}, document)
    error = f"<Error><Code>{fault.code}</Code><Message>{fault.message}</Message></Error>"
    text = error if service in ("s3", "") else f"<ErrorResponse>{error}</ErrorResponse>"
    return Reply(fault.status, {"Content-Type": "text/xml", **fault.headers}, text.encode())


def _error_inside(service: str, code: str) -> Reply:
    inside = refusal(service, Refuse(200, code))
    return replace(inside, body=b'<?xml version="1.0" encoding="UTF-8"?>\n' + inside.body)
