"""A function's CloudWatch log, in time order, page by page (logs:FilterLogEvents)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from scar.aws.names import log_group
from scar.errors import NotFoundError

if TYPE_CHECKING:
    from scar.aws.clients import Aws


@dataclass(frozen=True, slots=True)
class Line:
    """One log event. `time_ms` counts from 1970 in UTC; `message` has no newline at its end."""

    time_ms: int
    stream: str
    message: str


def lines(aws: Aws, function: str, *, stream: str | None = None, since_ms: int | None = None) -> Iterator[Line]:
    """Every line of the function's log group that fits; raises NotFoundError when there is no such group."""
    asked: dict[str, Any] = {"logGroupName": log_group(function)}
    if stream is not None:
        asked["logStreamNames"] = [stream]
    if since_ms is not None:
        asked["startTime"] = since_ms
    try:
        for page in aws.logs.get_paginator("filter_log_events").paginate(**asked):
            for event in page["events"]:
                yield Line(event["timestamp"], event["logStreamName"], event["message"].rstrip("\n"))
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFoundException":
            raise
        what = f"log stream {stream!r} of {function!r}" if stream else f"log of a function called {function!r}"
        raise NotFoundError(f"there is no {what}", fix="See what there is: scar ls") from error


def of_request(found: Iterable[Line], request_id: str) -> Iterator[Line]:
    """The lines of one run: from its START to its REPORT, within the stream that ran it."""
    stream: str | None = None
    for line in found:
        if line.message.startswith(f"START RequestId: {request_id}"):
            stream = line.stream
        if line.stream == stream:
            yield line
            if line.message.startswith(f"REPORT RequestId: {request_id}"):
                return
