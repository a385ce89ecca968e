"""What AWS has: every resource read, several at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from scar.aws.clients import Aws
from scar.aws.errors import mapped
from scar.plan.resource import Id, Resource

THREADS: Final = 8


def observe(aws: Aws, resources: Iterable[Resource], *, threads: int = THREADS) -> Mapping[Id, Resource]:
    """Read each resource; those that are absent are not in the answer. Reads only."""

    def read(resource: Resource) -> Resource | None:
        with mapped(f"read {resource.id}"):
            return resource.read(aws)

    asked = tuple(resources)
    if threads == 1 or len(asked) < 2:
        found = [read(resource) for resource in asked]
    else:
        with ThreadPoolExecutor(min(threads, len(asked)), "observe") as pool:
            found = list(pool.map(read, asked))
    return {now.id: now for now in found if now is not None}
