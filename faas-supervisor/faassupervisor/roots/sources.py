"""Where the layers of a root file system are kept. `SOURCES` has one line for each kind, told by how `source` begins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from faassupervisor.contract import ContractError, RootLayer
from faassupervisor.roots.remote import Body, Source
from faassupervisor.storage import Stores


class _Objects:
    """`s3://bucket/prefix`: a layer is the object `prefix/<64 hex digits>`, read with the function's role."""

    def __init__(self, source: str, stores: Stores) -> None:
        from faassupervisor.storage import s3

        store = stores.of("s3")
        assert isinstance(store, s3.S3)
        self._store = store
        self.broken = s3.BROKEN
        self._bucket, _, self._prefix = source.removeprefix("s3://").partition("/")

    def open(self, layer: RootLayer, start: int) -> Body:
        key = "/".join(filter(None, (self._prefix.strip("/"), layer.digest.removeprefix("sha256:"))))
        return self._store.open(self._bucket, key, start)


def _registry(source: str, stores: Stores) -> Source:
    from faassupervisor.roots.registry import Registry

    return Registry(source)


SOURCES: Final[Mapping[str, Callable[[str, Stores], Source]]] = {
    "s3://": _Objects,
    "https://": _registry,
    "http://": _registry,
}


def source_of(source: str, stores: Stores) -> Source:
    return SOURCES[_kind(source)](source, stores)


def expect_known(source: str) -> None:
    """Raises ContractError for a kind that is not in the table."""
    _kind(source)


def _kind(source: str) -> str:
    for start in SOURCES:
        if source.startswith(start):
            return start
    raise ContractError(f"function spec: root: source {source!r}: this agent knows {', '.join(SOURCES)}")
