"""What AWS has: every resource read, several at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol, runtime_checkable

from scar.aws.clients import Aws
from scar.aws.errors import mapped
from scar.plan.resource import Id, Resource

THREADS: Final = 8


@runtime_checkable
class Contained(Protocol):
    """A resource that is part of another, and so absent, without asking, where the other is."""

    @property
    def within(self) -> Id: ...


def observe(aws: Aws, resources: Iterable[Resource], *, threads: int = THREADS) -> Mapping[Id, Resource]:
    """Read each resource; those that are absent are not in the answer. Reads only."""
    asked = tuple(resources)
    names = {resource.id for resource in asked}
    parts = [resource for resource in asked if isinstance(resource, Contained) and resource.within in names]
    wholes = [resource for resource in asked if resource not in parts]
    found = _read(aws, wholes, threads)
    return {**found, **_read(aws, [part for part in parts if part.within in found], threads)}


def _read(aws: Aws, asked: Sequence[Resource], threads: int) -> dict[Id, Resource]:
    def read(resource: Resource) -> Resource | None:
        with mapped(f"read {resource.id}"):
            return resource.read(aws)

    if threads == 1 or len(asked) < 2:
        found = [read(resource) for resource in asked]
    else:
        with ThreadPoolExecutor(min(threads, len(asked)), "observe") as pool:
            found = list(pool.map(read, asked))
    return {now.id: now for now in found if now is not None}
