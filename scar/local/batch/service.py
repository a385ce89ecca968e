"""Batch's API as one callable: an operation and its body in, a status and a document out.

It knows which part answers an operation, that a change is on disk before it is answered, and when what Batch does in its own time
(CREATING → VALID, DELETING → gone) is due. The jobs are plugged in (`JobsPart`); the door to the network is `door`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from scar.local.batch.records import Region

SETTLE_S: Final = 0.3  # AWS takes seconds to minutes

Handler = Callable[[Region, Mapping[str, Any]], dict[str, Any]]  # raises RefusalError (checks.ClientError_)


class JobsPart(Protocol):
    """The part that runs jobs.

    1. `actions` has a handler for each operation on jobs, by its API name (`SubmitJob`). Handlers are called on many threads at once,
       without `Region.lock`; the request is a `checks.Request`. What they answered is on disk.
    2. `unfinished` counts a queue's jobs that are neither SUCCEEDED nor FAILED.
    3. `start` is called once, after the control plane has been loaded; `stop` ends what runs.
    """

    @property
    def actions(self) -> Mapping[str, Handler]: ...

    def unfinished(self, region: Region, queue_arn: str) -> int: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...


class Batch:
    """Batch in every region of one account. Everything it must not forget lies below `folder`."""

    def __init__(
        self,
        folder: Path,
        *,
        jobs: Callable[[Callable[[str, str], Region]], JobsPart],
        clock: Callable[[], float] = time.time,
        settle_s: float = SETTLE_S,
    ) -> None:
        raise NotImplementedError

    def handle(self, account: str, region: str, operation: str, content: bytes) -> tuple[int, dict[str, Any]]:
        """Do one operation, named as in its path (`createjobqueue`), and answer HTTP status and document."""
        raise NotImplementedError

    def respond(
        self, account: str, region: str, method: str, target: str, content: bytes
    ) -> tuple[int, dict[str, Any]]:
        """The same by HTTP method and path with query: `/v1/submitjob`, `/v1/tags/<arn>?tagKeys=a`."""
        raise NotImplementedError

    def region(self, account: str, region: str) -> Region:
        raise NotImplementedError

    def start(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        raise NotImplementedError

    def status(self) -> Mapping[str, Any]:
        raise NotImplementedError
