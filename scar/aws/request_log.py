"""Which lines of a function's log are those of one request, and what do they say became of it?

A sandbox serves one invocation at a time, so an invocation's lines stand between its START and its REPORT in one stream. A request may
have several invocations: Lambda's retries bear the same id, and the delivery of its failure has an id of its own, but the agent's lines in it
name the request. Finding them costs one search for the id in the whole group; the streams are then read from where it first appears.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from scar.aws.logs import Line, Tail, in_time_order, of_lambda
from scar.errors import UsageError
from scar.limits import LAMBDA_TIMEOUT_S

if TYPE_CHECKING:
    from scar.aws.clients import Aws

# The agent's words for a record that a job has, in a line with `job_id`: the second is said by an attempt that comes later.
HANDED_OVER: Final = frozenset({"handed over", "in the hands of Batch already"})
NODE_ENDED: Final = "node ended"  # the last word of a node that is not its job's main one
_HELD: Final = 1000  # lines of an invocation of which we do not know yet whether it is the request's
_INVOCATION_MS: Final = LAMBDA_TIMEOUT_S[1] * 1000
_ID: Final = re.compile(r"[a-zA-Z0-9:#-]{1,80}")
_REPORT: Final = re.compile(r"REPORT RequestId: (\S+)")
_START: Final = re.compile(r"START RequestId: (\S+)")
_PLATFORM: Final = re.compile(r"(?:START|END|REPORT) RequestId: |INIT_START |\S+Z \S+ Task timed out")
_STATUS: Final = re.compile(r"\tStatus: (\w+)(?:\tError Type: (\S+))?")
_KILLS: Final = ("Runtime.", "Sandbox.")  # types of errors that Lambda finds; what the agent says of itself has others
_UNDECIDED: Final = frozenset({"HandOverFailed", "AlreadyRunning"})
_FAILURES: Final = frozenset({"a record failed", "refused a record", "the agent failed"})  # the agent's words


def facts_of(message: str) -> Mapping[str, Any]:
    """The agent's line as it wrote it; empty for every other line."""
    if not message.startswith("{"):
        return {}
    try:
        document = json.loads(message)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def fact(facts: Mapping[str, Any]) -> str | None:
    """What an agent's line says happened."""
    said = facts.get("fact", facts.get("message"))
    return said if isinstance(said, str) else None


def invocation_begun(message: str) -> str | None:
    """The id of the invocation that begins with this line."""
    found = _START.match(message)
    return found[1] if found else None


def invocation_ended(message: str) -> bool:
    """Whether this is the last line of an invocation."""
    return _REPORT.match(message) is not None


def failed_request(message: str) -> str | None:
    """The request of which this line of an agent says that it failed."""
    facts = facts_of(message)
    request_id = facts.get("request_id")
    return request_id if fact(facts) in _FAILURES and isinstance(request_id, str) else None


def report_of(message: str) -> tuple[str, str, int, int] | None:
    """Of a REPORT line: status ('' for a run that ended well), type of error, memory of the function and the most that was used, in MiB."""
    if not invocation_ended(message):
        return None
    status = _STATUS.search(message)
    memory = re.search(r"Memory Size: (\d+) MB\tMax Memory Used: (\d+) MB", message)
    figures = (int(memory[1]), int(memory[2])) if memory else (0, 0)
    return (status[1] if status else "", (status[2] or "") if status else "", *figures)


def checked_id(request_id: str) -> str:
    """The id itself; raises UsageError for what cannot be one, because it becomes part of a search."""
    if not _ID.fullmatch(request_id):
        raise UsageError(
            f"{request_id!r} is neither a request id nor a job's",
            fix="Both look like 1f2e3d4c-0000-4000-8000-000000000000.",
        )
    return request_id


class Outcome:
    """What the log has said so far of one request.

    `job_ids` are in the order of their hand-overs. `undecided`: the last invocation that ended was killed, or could hand nothing over, so
    that a retry or the delivery of the failure may still do so.
    """

    def __init__(self) -> None:
        self.job_ids: tuple[str, ...] = ()
        self.undecided = False
        self._failed = 0
        self._ended = 0  # exit code of a script of which we do not know yet what its end means

    @property
    def exit_code(self) -> int:
        """That of the first record that failed in Lambda; 0 when none did, or a job took it over."""
        return self._failed or (self._ended if self.undecided else 0)

    def hear(self, line: Line) -> None:
        """Take in a line of one of the request's invocations, in their order."""
        if _REPORT.match(line.message):
            self._hear_report(line.message)
            return
        facts = facts_of(line.message)
        match fact(facts):
            case "script ended":
                code = facts.get("exit_code")
                self._ended = code if isinstance(code, int) else 0
            case said if said in _FAILURES and facts.get("kind") in _UNDECIDED:
                self._ended, self.undecided = 1, True
            case said if said in _FAILURES:
                self._failed = self._failed or self._ended or 1
            case "a request is given up":
                self._failed, self.undecided = self._failed or self._ended or 1, False
            case said if said in HANDED_OVER:
                self._ended, self.undecided = 0, False
            case _:
                pass

    def hear_of_job(self, line: Line) -> None:
        """Take in a line that tells of a hand-over; any other is passed over."""
        facts = facts_of(line.message)
        job_id = facts.get("job_id")
        if fact(facts) in HANDED_OVER and isinstance(job_id, str) and job_id not in self.job_ids:
            self.job_ids = (*self.job_ids, job_id)

    def _hear_report(self, message: str) -> None:
        status = _STATUS.search(message)
        if status is None:
            return
        if status[1] == "timeout" or (status[2] or "").startswith(_KILLS):
            self._ended, self.undecided = 124 if status[1] == "timeout" else 1, True
        elif not self.undecided:
            self._failed = self._failed or self._ended or 1


class RequestLog:
    """The lines of one request, once or as they come."""

    def __init__(self, aws: Aws, function: str, request_id: str, *, since_ms: int | None = None) -> None:
        self._aws, self._id = aws, checked_id(request_id)
        self._group = of_lambda(function, since_ms=since_ms)
        self._mentions = Tail(aws, replace(self._group, phrase=self._id))
        self._streams: dict[str, _Stream] = {}
        self.outcome = Outcome()

    @property
    def found(self) -> bool:
        """Whether the log knows the request at all."""
        return bool(self._streams)

    @property
    def running(self) -> bool:
        """Whether an invocation of it has begun and not ended, as far as the lines tell."""
        return any(stream.open for stream in self._streams.values())

    def search(self) -> None:
        """Look where the request is mentioned. Afterwards `found` and the outcome's `job_ids` are as of now."""
        for line in self._mentions.poll():
            if _is_about(line.message, self._id):
                self.outcome.hear_of_job(line)
                self._stream(line).due = True

    def poll(self) -> Iterator[Line]:
        """Its lines that are new since the last call, oldest first. To be read to the end; `search` comes before."""
        return in_time_order(self._heard(stream) for stream in self._streams.values() if stream.open or stream.due)

    def _stream(self, line: Line) -> _Stream:
        known = self._streams.get(line.stream)
        if known is None:
            # A mention inside an invocation of another id: that began at most as long ago as any invocation lasts.
            begins = line.time_ms if _START.match(line.message) else line.time_ms - _INVOCATION_MS
            asked = replace(self._group, streams=(line.stream,), since_ms=max(begins, self._group.since_ms or 0))
            known = self._streams[line.stream] = _Stream(Tail(self._aws, asked), self._id)
        return known

    def _heard(self, stream: _Stream) -> Iterator[Line]:
        for line in stream.poll():
            self.outcome.hear(line)
            self.outcome.hear_of_job(line)
            yield line


class _Stream:
    """One stream, of which the lines of the request's invocations are kept and all others passed over."""

    def __init__(self, tail: Tail, request_id: str) -> None:
        self._tail, self._id = tail, request_id
        self._current: str | None = None  # id of the invocation that is being served
        self._ours = False
        self._held: deque[Line] = deque(maxlen=_HELD)
        self.due = True

    @property
    def open(self) -> bool:
        """Whether an invocation of the request is being served."""
        return self._ours

    def poll(self) -> Iterator[Line]:
        for line in self._tail.poll():
            yield from self._take(line)
        self.due = False

    def _take(self, line: Line) -> Iterator[Line]:
        if begun := _START.match(line.message):
            self._current, self._ours = begun[1], False
            self._held.clear()
        about = _is_about(line.message, self._id)
        if about and not self._ours and self._current is not None:
            self._ours = True
            yield from self._held
            self._held.clear()
        if self._ours or about:
            yield line
        elif self._current is not None:
            self._held.append(line)
        ended = _REPORT.match(line.message)
        if ended and ended[1] == self._current:
            self._current, self._ours = None, False
            self._held.clear()


def _is_about(message: str, request_id: str) -> bool:
    """Lambda's own lines about a request and the agent's; not any text that happens to hold the id."""
    if message.startswith("{"):
        facts = facts_of(message)
        return request_id in {facts.get("request_id"), facts.get("of")}  # `of`: the agent unwraps the request's failure
    return (
        re.match(
            rf"(?:START|END|REPORT) RequestId: {re.escape(request_id)}\b|\S+ {re.escape(request_id)} Task timed out",
            message,
        )
        is not None
    )


def is_output(message: str) -> bool:
    """Whether the user's process wrote it: neither Lambda's own lines, nor the agent's facts and its last word."""
    if message.startswith("{"):
        facts = facts_of(message)
        return not ("request_id" in facts and ("fact" in facts or is_last_word(facts)))
    return _PLATFORM.match(message) is None


def is_last_word(facts: Mapping[str, Any]) -> bool:
    """Whether this is the document with which the agent ends a job: a Reply or a Failure."""
    return "request_id" in facts and "schema" in facts and "runs" in facts
