"""Runs that an HTTP caller does not wait for: the function invokes itself asynchronously with the same request.

So Lambda's queue holds the request, its attempts and its failures are those of any event, and its id is the one to follow in the log. What
is too large for an event goes through the state bucket.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import quote

from faassupervisor import hops, signed
from faassupervisor.errors import HandOverError
from faassupervisor.events.http import FORWARDED

if TYPE_CHECKING:
    from faassupervisor.events import HttpItem
    from faassupervisor.record import Invocation
    from faassupervisor.sandbox import Sandbox


class TooLargeError(Exception):
    """The request does not fit into an event, and may not go another way."""


def forward(sandbox: Sandbox, item: HttpItem, invocation: Invocation) -> str:
    """The id of the run that this request gets. Raises TooLargeError, and HandOverError when nobody can say that there is one."""
    assert invocation.function_arn is not None
    payload = json.dumps({**json.loads(item.event), FORWARDED: invocation.request_id}).encode()
    if not hops.ASYNC_INVOKE.fits(len(payload)):
        payload = _spilled(sandbox, payload)
    try:
        answer = signed.call(
            sandbox.aws,
            "lambda",
            path=f"/2015-03-31/functions/{quote(invocation.function_arn, safe='')}/invocations",
            headers={"X-Amz-Invocation-Type": "Event", "Content-Type": "application/json"},
            body=payload,
            deadline=invocation.deadline,
            attempts=1,  # sent twice it could run twice
        )
    except signed.CallError as error:
        raise HandOverError(f"the function could not invoke itself: {error}") from error
    request_id = answer.headers.get("x-amzn-requestid")
    if answer.status == 403:
        raise HandOverError("the function may not invoke itself: its role needs lambda:InvokeFunction on the function")
    if answer.status != 202 or not request_id:
        raise HandOverError(f"the function could not invoke itself: {answer.status} {answer.code}".rstrip())
    return request_id


def _spilled(sandbox: Sandbox, payload: bytes) -> bytes:
    if not sandbox.function.spec.spill:
        raise TooLargeError(hops.ASYNC_INVOKE.refusal(len(payload)))
    from faassupervisor import spill, state

    return spill.put(state.of(sandbox.aws), payload).to_payload()
