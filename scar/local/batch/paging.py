"""Lists in pages: maxResults, nextToken. A token says which name the next page begins after, so that it survives changes and restarts."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from scar.local.batch.checks import ClientError_
from scar.local.batch.records import ComputeEnvironment, JobQueue

PAGE: Final = 100  # botocore batch:DescribeComputeEnvironmentsRequest.maxResults, and its siblings

_One = TypeVar("_One")
_Named = TypeVar("_Named", ComputeEnvironment, JobQueue)


def page(
    request: Mapping[str, Any], found: Sequence[_One], key: Callable[[_One], str], *, most: int = PAGE
) -> tuple[list[_One], dict[str, str]]:
    """The page that a request asks for of what was found, in the order of `key`, and the answer's `nextToken` if there is more."""
    size = int(request.get("maxResults") or most)
    if not 1 <= size <= most:
        raise ClientError_(f"maxResults must be between 1 and {most}")
    after = _read(str(request["nextToken"])) if request.get("nextToken") else ""
    rest = [one for one in sorted(found, key=key) if key(one) > after]
    chosen = rest[:size]
    return chosen, ({"nextToken": _token(key(chosen[-1]))} if len(rest) > size else {})


def named_page(
    request: Mapping[str, Any], member: str, find: Callable[[str], _Named | None], table: Mapping[str, _Named]
) -> tuple[list[_Named], dict[str, str]]:
    """The page of those that the request names by name or ARN in `member`, or of all; what is not there is left out."""
    asked = request.get(member) or []
    if len(asked) > PAGE:
        raise ClientError_(f"{member} can have at most {PAGE} entries")
    found = [find(one) for one in asked] if asked else list(table.values())
    known = list({one.arn: one for one in found if one is not None}.values())
    return page(request, known, lambda one: one.name)


def _token(last: str) -> str:
    return base64.urlsafe_b64encode(last.encode()).decode()


def _read(token: str) -> str:
    try:
        return base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise ClientError_("Invalid nextToken") from error
