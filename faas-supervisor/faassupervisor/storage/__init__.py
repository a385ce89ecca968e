"""Where files come from and go to. `STORAGES` has one line for each kind; a backend is imported when it is first used.

What every backend promises:

1. `fetch` answers when `target` holds exactly the content that the item names, and the number of its bytes. Otherwise it raises
   StageInError and `target` does not exist. Memory is bounded whatever the size.
2. `publish` uploads the files in order of their keys; each one is whole or absent. It answers their URIs, or raises
   StageOutError that carries the URIs of those already there.
3. Both give up when the deadline for the agent has passed.
4. A message names the bucket and the key, and what is missing: never a credential.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from faassupervisor.aws import Aws
from faassupervisor.contract import Provider
from faassupervisor.deadline import Deadline
from faassupervisor.events.items import ObjectItem


@dataclass(frozen=True, slots=True)
class Upload:
    """One file to publish. `open` opens it for reading, from its first byte; `size` is what it held when it was checked."""

    bucket: str
    key: str
    size: int
    open: Callable[[], BinaryIO]


class Store(Protocol):
    def fetch(self, item: ObjectItem, target: Path, deadline: Deadline) -> int: ...

    def publish(self, uploads: Sequence[Upload], deadline: Deadline) -> tuple[str, ...]: ...


class UnknownProviderError(LookupError):
    """No storage of the function is called so. Its text is a sentence that names it."""


def _s3(aws: Aws, provider: Provider | None) -> Store:
    from faassupervisor.storage.s3 import S3

    return S3.of(aws)


STORAGES: Final[Mapping[str, Callable[[Aws, Provider | None], Store]]] = {"s3": _s3}


class Stores:
    """The backends of one sandbox, each made when first asked for and then kept: a client costs more than a request."""

    def __init__(self, aws: Aws, providers: Sequence[Provider] = ()) -> None:
        self._aws = aws
        self._providers = {provider.name: provider for provider in providers}
        self._made: dict[str, Store] = {}

    def of(self, provider: str) -> Store:
        """The backend that `TYPE` or `TYPE.ID` names. Raises UnknownProviderError when the function has no such storage.

        `s3` alone is what the function's own role reaches; so is `s3.default`, unless the function's providers say otherwise.
        """
        name = self._known(provider)
        if name not in self._made:
            self._made[name] = STORAGES[kind_of(name)](self._aws, self._providers.get(name))
        return self._made[name]

    def _known(self, provider: str) -> str:
        if provider in self._providers and kind_of(provider) in STORAGES:
            return provider
        if provider in ("s3", "s3.default"):
            return "s3"
        raise UnknownProviderError(
            f"the function has no storage provider {provider!a}: it has {', '.join(sorted({'s3', *self._providers}))}"
        )


def kind_of(provider: str) -> str:
    return provider.split(".", 1)[0]
