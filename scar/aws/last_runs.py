"""How did the last run of each function end? Asked for many functions at once, two calls for each, a few at a time.

CloudWatch's metrics would tell of 500 functions in one call, but only sums of a minute or more: neither which run it was nor how it ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from botocore.exceptions import ClientError

from scar.aws import names
from scar.aws.errors import is_absent, whole
from scar.aws.request_log import failed_request, report_of

if TYPE_CHECKING:
    from scar.aws.clients import Aws

_AT_ONCE: Final = 8  # DescribeLogStreams takes 25 calls a second, GetLogEvents 25 (AmazonCloudWatch/latest/logs/cloudwatch_limits_cwl)
_EVENTS: Final = 20  # from the end of the stream: REPORT is an invocation's last line, or nearly


@dataclass(frozen=True, slots=True)
class LastRun:
    """The last run that ended in Lambda. `result` is `ok`, `failed` or `timed out`; what it handed over to Batch is a job's to tell."""

    request_id: str
    result: str
    time_ms: int


def last_runs(aws: Aws, functions: Iterable[str]) -> Mapping[str, LastRun]:
    """Functions that have not run, or whose log is gone, are left out."""
    wanted = tuple(functions)
    aws.logs  # noqa: B018 - made before there are threads
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        found = zip(wanted, pool.map(lambda name: _last(aws, name), wanted), strict=True)
        return {name: run for name, run in found if run is not None}


def _last(aws: Aws, function: str) -> LastRun | None:
    group = names.log_group(function)
    try:
        answer = aws.logs.describe_log_streams(logGroupName=group, orderBy="LastEventTime", descending=True, limit=1)
        streams = whole(answer, "logStreams")
        if not streams:
            return None
        events = aws.logs.get_log_events(
            logGroupName=group, logStreamName=streams[0]["logStreamName"], limit=_EVENTS, startFromHead=False
        )
    except ClientError as error:
        if is_absent(error):
            return None
        raise
    failed = {failed_request(event["message"]) for event in whole(events, "events")}
    for event in reversed(whole(events, "events")):
        said = report_of(event["message"].rstrip("\n"))
        if said is not None:
            request_id = event["message"].split()[2]
            well = "failed" if request_id in failed else "ok"
            return LastRun(request_id, {"": well, "timeout": "timed out"}.get(said[0], "failed"), event["timestamp"])
    return None
