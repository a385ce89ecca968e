"""What is in a CloudWatch log group? Its lines in time order, page by page, once or as they come (logs:FilterLogEvents).

What the lines of one run are is `request_log`'s business.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from botocore.exceptions import ClientError

from scar.aws import names
from scar.aws.errors import code_of, whole

if TYPE_CHECKING:
    from scar.aws.clients import Aws

Source = Literal["lambda", "batch"]

STREAMS_AT_ONCE: Final = 100  # botocore logs:InputLogStreamNames
BATCH_GROUP: Final = "/aws/batch/job"  # Batch's own, for jobs whose definition names no other
LATE_MS: Final = (
    30_000  # a line may be seen this much later than lines that were written after it: agents send in batches
)


@dataclass(frozen=True, slots=True)
class Line:
    """One log event. `time_ms` counts from 1970 in UTC; `message` has no newline at its end; `id` is the event's own."""

    time_ms: int
    stream: str
    message: str
    id: str = ""
    source: Source = "lambda"


@dataclass(frozen=True, slots=True)
class Question:
    """What to read: a group, perhaps of it only some streams, lines of a time, lines that hold `phrase` (which has no quotes in it)."""

    group: str
    source: Source = "lambda"
    streams: tuple[str, ...] = ()
    since_ms: int | None = None
    phrase: str | None = None
    until_ms: int | None = None


def of_lambda(function: str, *, stream: str | None = None, since_ms: int | None = None) -> Question:
    return Question(names.log_group(function), "lambda", (stream,) if stream else (), since_ms)


def of_batch(function: str, *, stream: str | None = None, since_ms: int | None = None) -> Question:
    return Question(names.batch_log_group(function), "batch", (stream,) if stream else (), since_ms)


def lines(aws: Aws, asked: Question) -> Iterator[Line]:
    """Every line that fits, oldest first; never more than a page of them is held. A group or stream that is not there has none."""
    chunks = [asked.streams[i : i + STREAMS_AT_ONCE] for i in range(0, len(asked.streams), STREAMS_AT_ONCE)] or [()]
    return in_time_order(_lines(aws, replace(asked, streams=chunk)) for chunk in chunks)


def in_time_order(sources: Iterable[Iterator[Line]]) -> Iterator[Line]:
    """Several readings as one; each is read only as far as it is needed."""
    return heapq.merge(*sources, key=lambda line: line.time_ms)


def exists(aws: Aws, asked: Question) -> bool:
    """Whether the group is there."""
    request = _request(asked) | {"limit": 1}
    try:
        aws.logs.filter_log_events(**request)
    except ClientError as error:
        if _is_absent(error):
            return False
        raise
    return True


def _lines(aws: Aws, asked: Question) -> Iterator[Line]:
    try:
        for page in aws.logs.get_paginator("filter_log_events").paginate(**_request(asked)):
            for event in whole(page, "events"):
                message = event["message"].rstrip("\n")
                yield Line(event["timestamp"], event["logStreamName"], message, event["eventId"], asked.source)
    except ClientError as error:
        if not _is_absent(error):
            raise
    else:
        return
    if len(asked.streams) > 1:  # one absent stream refuses the call for all of them
        yield from in_time_order([_lines(aws, replace(asked, streams=(stream,))) for stream in asked.streams])


def _request(asked: Question) -> dict[str, Any]:
    # AWS always interleaves the streams of a group; what stands in for it locally does so when told
    request: dict[str, Any] = {"logGroupName": asked.group, "interleaved": True}
    if asked.streams:
        request["logStreamNames"] = list(asked.streams)
    if asked.since_ms is not None:
        request["startTime"] = max(asked.since_ms, 0)
    if asked.until_ms is not None:
        request["endTime"] = max(asked.until_ms, 0)
    if asked.phrase is not None:
        request["filterPattern"] = f'"{asked.phrase}"'
    return request


def searchable(text: str) -> str | None:
    """The longest part of a text that a quoted term can be, None when there is none; what is found is to be looked at for the whole text.

    How quotes and backslashes would have to be escaped in one is written nowhere.
    """
    return max(re.split(r'["\\]', text), key=len) or None


def _is_absent(error: ClientError) -> bool:
    return code_of(error) == "ResourceNotFoundException"


class Tail:
    """The lines that fit a question as they come: each exactly once, whenever it is seen, unless it is more than LATE_MS late.

    Every `poll` asks from a little before the newest line on and leaves out what it has given already, told by the events' ids: lines of one
    millisecond are neither lost nor given twice. A poll that ends in an error may be followed by another.
    """

    def __init__(self, aws: Aws, asked: Question) -> None:
        self._aws, self._asked = aws, asked
        self._newest_ms: int | None = None
        self._given: dict[str, int] = {}

    def poll(self) -> Iterator[Line]:
        """What is new, oldest first. To be read to its end."""
        self._forget()
        asked = self._asked
        if self._newest_ms is not None:
            asked = replace(asked, since_ms=max(self._newest_ms - LATE_MS, asked.since_ms or 0))
        for line in lines(self._aws, asked):
            if line.id in self._given:
                continue
            yield line
            # Only now: a reader that merges us with others may hold this line when another of them fails, and then never shows it.
            self._given[line.id] = line.time_ms
            self._newest_ms = max(line.time_ms, self._newest_ms or 0)
            if len(self._given) % 10_000 == 0:
                self._forget()

    def _forget(self) -> None:
        """Ids of lines too old to be asked for again."""
        oldest_ms = (self._newest_ms or 0) - LATE_MS
        self._given = {key: at_ms for key, at_ms in self._given.items() if at_ms >= oldest_ms}
