"""How much fits where: every hop that a payload takes through AWS, its limit, and how to count bytes as they are sent.

The one place that both the agent and `scar` count with (standard library only). Limits checked 2026-11.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

KIB: Final = 1024
MIB: Final = 1024 * KIB


@dataclass(frozen=True, slots=True)
class Hop:
    """One hop. What is sent over it may have `limit` units (`bytes` or `characters`), of which `margin` are kept for what AWS adds.

    `what` names what is counted; `fix` says what to do with too much when it cannot go through the state bucket.
    """

    name: str
    limit: int
    what: str
    source: str
    fix: str
    unit: str = "bytes"
    margin: int = 0

    @property
    def room(self) -> int:
        """What we may use."""
        return self.limit - self.margin

    def fits(self, size: int) -> bool:
        return size <= self.room

    def refusal(self, size: int) -> str:
        """One sentence with hop, size and limit."""
        kept = f", of which {self.margin} are kept for what AWS adds" if self.margin else ""
        return f"{self.name}: {self.what} has {size} {self.unit}, the limit is {self.limit}{kept}"


SYNC_INVOKE: Final = Hop(
    "synchronous invocation",
    6 * MIB,
    "the event",
    "lambda/latest/dg/gettingstarted-limits",
    "Put the data into a bucket: scar put.",
)
ASYNC_INVOKE: Final = Hop(
    "asynchronous invocation",
    1 * MIB,
    "the event",
    "botocore lambda:Invoke (256 KiB in older documents)",
    "Put the data into a bucket: scar put.",
)
LAMBDA_ENVIRONMENT: Final = Hop(
    "Lambda environment",
    4 * KIB,
    "the function's environment, names and values together,",
    "lambda/latest/dg/gettingstarted-limits",
    "Move variables to `container.environment`, which travels in the image.",
)
JOB_DEFINITION: Final = Hop(
    "job definition",
    24 * KIB,
    "the request",
    "batch/latest/userguide/service_limits",
    "Move variables from `batch.environment` to `container.environment`, which travels in the image.",
)
SUBMIT_JOB: Final = Hop(
    "SubmitJob",
    30 * KIB,
    "the request",
    "batch/latest/userguide/service_limits",
    "Put the data into a bucket.",
)
# Refused only after SubmitJob was answered with success: the job becomes FAILED with "Container Overrides length must be at most 8192".
# Batch's own AWS_BATCH_* variables ride in it too.
ECS_OVERRIDES: Final = Hop(
    "ECS overrides",
    8192,
    "what SubmitJob overrides of the container",
    "botocore ecs:RunTaskRequest.overrides",
    "Put the data into a bucket.",
    unit="characters",
    margin=2048,
)
HOPS: Final = (SYNC_INVOKE, ASYNC_INVOKE, LAMBDA_ENVIRONMENT, JOB_DEFINITION, SUBMIT_JOB, ECS_OVERRIDES)


def sent_bytes(request: Mapping[str, Any]) -> int:
    """A request's parameters as botocore's REST-JSON serializer sends them: ASCII, with a blank after each comma and colon."""
    return len(json.dumps(request).encode())


def characters(document: Any) -> int:
    """A document's characters as JSON, its formatting included."""
    return len(json.dumps(document))


def environment_bytes(variables: Mapping[str, str]) -> int:
    """Names and values together, in UTF-8: what Lambda counts."""
    return sum(len(name.encode()) + len(value.encode()) for name, value in variables.items())
