"""What a caller of the function's HTTP endpoint is answered, in the shape that API Gateway and function URLs take from a function.

    exit code 0, one output file       200, its bytes; the content type goes by its name
    exit code 0, several               200, a zip of them with their relative names, in their order
    exit code 0, none                  200, text/plain: what the script wrote to standard output and error, the last 256 KiB of it
    handed over to Batch, or asked not to be waited for    202, {"request_id", "job_id"}
    a request that cannot be served    400, 413
    anything else                      5xx; 504 when time was over

An answer that is no result is JSON: `error`, `message`, `exit_code` and `request_id`. It holds nothing that a script or this machine said
of itself: no output, no path, no traceback. `x-scar-request-id` is always there. HEAD and OPTIONS run the script like any other method;
no header of CORS is made up.

To Lambda each of these is an invocation that succeeded: failures show as the gateway's 5xx and as error lines in the log.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from faassupervisor import outputs
from faassupervisor.content_types import content_type
from faassupervisor.contract import Failure
from faassupervisor.outputs import Output
from faassupervisor.reply import LIMIT_BYTES

REQUEST_ID_HEADER: Final = "x-scar-request-id"
SHORTENED_HEADER: Final = "x-scar-output-shortened"
MOST_ZIPPED_BYTES: Final = (
    64 * 1024 * 1024
)  # before compression: what can be packed in a few seconds of a small function
_KEPT_OUTPUT_BYTES: Final = 256 * 1024  # what runners keep of a script's output
_AROUND_BYTES: Final = 1024  # status, headers and names in an answer's document
_CHUNK_BYTES: Final = 1024 * 1024
_ZIP_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_TEXT: Final = "text/plain; charset=utf-8"
_ALSO_TEXT: Final = (
    "application/json",
    "application/xml",
    "application/javascript",
    "application/yaml",
    "image/svg+xml",
)
_STATUS: Final = {
    "BadEvent": HTTPStatus.BAD_REQUEST,
    "ScriptTimedOut": HTTPStatus.GATEWAY_TIMEOUT,
    "HandOverFailed": HTTPStatus.SERVICE_UNAVAILABLE,
    "AlreadyRunning": HTTPStatus.SERVICE_UNAVAILABLE,
}
_SAID: Final = {
    "ScriptFailed": "the function's script failed",
    "ScriptTimedOut": "the function's time was over before its script had ended",
    "StageOutFailed": "what the function's script wrote could not be published",
    "HandOverFailed": "the request could not be handed over; nothing of it has run",
    "AlreadyRunning": "this request is being worked on already",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers and body of one answer. `body` is text when it can travel as such, and bytes where it cannot."""

    status: int
    body: bytes | str
    headers: Mapping[str, str] = field(default_factory=dict)

    def to_json(self, request_id: str) -> bytes:
        text = self.body if isinstance(self.body, str) else base64.b64encode(self.body).decode("ascii")
        document = {
            "statusCode": int(self.status),
            "headers": {**self.headers, REQUEST_ID_HEADER: request_id},
            "body": text,
            "isBase64Encoded": isinstance(self.body, bytes),
        }
        return json.dumps(document, ensure_ascii=False).encode()


def result(outbox: Path, written: str) -> Answer:
    """What a run that succeeded has to say. Raises StageOutError for an output that cannot be published."""
    found = outputs.find(outbox)
    if not found:
        shortened = len(written.encode()) >= _KEPT_OUTPUT_BYTES
        return _fitting(
            Answer(200, written, {"content-type": _TEXT, **({SHORTENED_HEADER: "true"} if shortened else {})})
        )
    if len(found) > 1:
        content = _zipped(outbox, found)
        return _TOO_LARGE if content is None else _fitting(Answer(200, content, {"content-type": "application/zip"}))
    return _file(outbox, found[0])


def failed(failure: Failure) -> Answer:
    """A failure as its caller may know it. Of a bad request the reason is told: it speaks of nothing but the request."""
    said = (
        failure.message.removeprefix("event: ")
        if failure.kind == "BadEvent"
        else _SAID.get(failure.kind, "the function failed")
    )
    return _error(
        _STATUS.get(failure.kind, HTTPStatus.INTERNAL_SERVER_ERROR),
        failure.kind,
        said,
        failure.request_id,
        failure.exit_code,
    )


def accepted(request_id: str, job_id: str | None = None) -> Answer:
    """The run goes on without the caller."""
    document = {"request_id": request_id, **({"job_id": job_id} if job_id else {})}
    return Answer(HTTPStatus.ACCEPTED, json.dumps(document), {"content-type": "application/json"})


def too_large(message: str, request_id: str) -> Answer:
    return _error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "RequestTooLarge", message, request_id, 1)


def settled(reason: str, request_id: str) -> Answer:
    """Another delivery of this request has been served."""
    return _error(HTTPStatus.CONFLICT, "AlreadyServed", reason, request_id, 1)


def _error(status: HTTPStatus, kind: str, message: str, request_id: str, exit_code: int) -> Answer:
    document = {"error": kind, "message": message, "exit_code": exit_code, "request_id": request_id}
    return Answer(status, json.dumps(document), {"content-type": "application/json"})


_TOO_LARGE: Final = Answer(
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    json.dumps(
        {
            "error": "ReplyTooLarge",
            "message": "the result is larger than an answer over HTTP may be: 6 MB, or 4.5 MB of what is not text. "
            "Give the function an output bucket, or write less.",
            "exit_code": 0,
        }
    ),
    {"content-type": "application/json"},
)


def _file(outbox: Path, output: Output) -> Answer:
    if output.size > LIMIT_BYTES:
        return _TOO_LARGE
    with outputs.open_output(outbox, output) as source:
        content = _read(source, output.size)
    kind = content_type(output.relative)
    if kind.startswith("text/") or kind in _ALSO_TEXT:
        try:
            return _fitting(Answer(200, content.decode(), {"content-type": f"{kind}; charset=utf-8"}))
        except UnicodeDecodeError:
            pass
    return _fitting(Answer(200, content, {"content-type": kind}))


def _read(source: Any, size: int) -> bytes:
    content = bytearray()
    while len(content) < size and (chunk := source.read(size - len(content))):
        content += chunk
    return bytes(content)


def _zipped(outbox: Path, found: Sequence[Output]) -> bytes | None:
    """None when it becomes too large. The same files give the same bytes."""
    if sum(output.size for output in found) > MOST_ZIPPED_BYTES:
        return None
    import io
    import zipfile

    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for output in found:
            entry = zipfile.ZipInfo(output.relative, _ZIP_EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            with outputs.open_output(outbox, output) as source, archive.open(entry, "w") as target:
                while chunk := source.read(_CHUNK_BYTES):
                    target.write(chunk)
                    if packed.tell() > LIMIT_BYTES:
                        return None
    return packed.getvalue()


def _fitting(answer: Answer) -> Answer:
    """Lambda refuses a reply beyond 6 MB, and what it refuses becomes a 502 that says nothing."""
    body = answer.body
    size = len(json.dumps(body, ensure_ascii=False).encode()) if isinstance(body, str) else (len(body) + 2) // 3 * 4
    return _TOO_LARGE if size + _AROUND_BYTES > LIMIT_BYTES else answer
