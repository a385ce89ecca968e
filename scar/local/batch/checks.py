"""What Batch says no to, and how it says it: refusals, and the size of a request as it was sent.

What single members may be is checked against botocore's model in `shapes`; what members must be to each other, beside what they belong to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from faassupervisor.hops import KIB, Hop

from scar.local.refusal import RefusalError

# How Batch words what its own validation found, as seen in reports of its users.
_EXECUTING: Final = "Error executing request, Exception : "


class ClientError_(RefusalError):  # noqa: N801, N818 - Batch's own name for it is ClientException
    """HTTP 400, ClientException: what Batch answers to nearly everything that it does not do."""

    def __init__(self, message: str) -> None:
        super().__init__(400, "ClientException", message)


class ServerError_(RefusalError):  # noqa: N801, N818 - Batch's own name for it is ServerException
    """HTTP 500, ServerException."""

    def __init__(self, message: str) -> None:
        super().__init__(500, "ServerException", message)


class Request(dict[str, Any]):
    """A request's parameters, with the bytes that its body had on the wire."""

    def __init__(self, parameters: Mapping[str, Any], sent_bytes: int) -> None:
        super().__init__(parameters)
        self.sent_bytes = sent_bytes


def check_size(request: Mapping[str, Any], hop: Hop, what: str) -> None:
    """Refuse a request whose body is above the limit of `hop`; `what` is Batch's word for it (`Job`, `Job definition`)."""
    size = request.sent_bytes if isinstance(request, Request) else 0
    if size >= hop.limit:
        raise ClientError_(
            f"{_EXECUTING}{what} size must be less than {hop.limit // KIB} KiB, got {-(-size // KIB)} KiB"
        )
