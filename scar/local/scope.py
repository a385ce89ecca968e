"""What one request has changed so far: gathered while moto works, settled (made durable, told onwards) before it is answered."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Scope:
    """One request's account of itself."""

    request_id: str
    source_ip: str = "127.0.0.1"
    touched: list[tuple[str, str, Any]] = field(
        default_factory=list
    )  # bucket, key, the version that changed (None: some went)
    events: list[Any] = field(default_factory=list)  # s3_events.Happening
    accepted: list[Any] = field(default_factory=list)  # tokens of events that wait for the request's answer
    changed_services: set[str] = field(default_factory=set)
    arrived: Any = None  # the body that came with the request, until something keeps it
    discarded: list[Any] = field(default_factory=list)  # bodies that lost their last name


class _Current(threading.local):
    scope: Scope | None = None


_current = _Current()


def current() -> Scope | None:
    """The request this thread is working on, if any."""
    return _current.scope


@contextlib.contextmanager
def working_on(scope: Scope) -> Iterator[Scope]:
    """Make `scope` the current one of this thread."""
    previous, _current.scope = _current.scope, scope
    try:
        yield scope
    finally:
        _current.scope = previous
