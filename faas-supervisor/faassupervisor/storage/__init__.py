"""Where files come from and go to. `STORAGES` has one line for each kind; a backend is imported when it is first used.

What every backend promises:

1. `fetch` answers when `target` holds exactly the content that the item names: the number of its bytes, and what it has been through.
   Otherwise it raises StageInError and `target` does not exist. Memory is bounded whatever the size.
2. `publish` uploads the files in order of their keys; each one is whole or absent. It answers their URIs, or raises
   StageOutError that carries the URIs of those already there. With them goes `lineage`, where the storage can keep it. A file that
   may not replace what is there, and finds something there, is left out of the answer.
3. Both give up when the deadline for the agent has passed.
4. A message names the bucket and the key, and what is missing: never a credential, not even when a server says it back to us.
5. Storage of a provider is asked as that provider is (`contract.Provider`): its certificate is checked unless it says otherwise, and no
   address of a private network is spoken to unless it says that this is meant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from faassupervisor.aws import Aws
from faassupervisor.contract import Provider, Spec
from faassupervisor.deadline import Deadline
from faassupervisor.events.items import ObjectItem


@dataclass(frozen=True, slots=True)
class Upload:
    """One file to publish. `open` opens it for reading, from its first byte; `size` is what it held when it was checked.

    `replaces` says whether it takes the place of what is there. Storage that cannot tell in one step replaces always.
    """

    bucket: str
    key: str
    size: int
    open: Callable[[], BinaryIO]
    provider: str = "s3"
    replaces: bool = True


@dataclass(frozen=True, slots=True)
class Fetched:
    """What has come: the number of its bytes, and the functions that made it what it is, oldest first (`faassupervisor.lineage`)."""

    size: int
    lineage: tuple[str, ...] = ()


class Store(Protocol):
    def fetch(self, item: ObjectItem, target: Path, deadline: Deadline) -> Fetched: ...

    def superseded(self, item: ObjectItem, deadline: Deadline) -> bool:
        """Whether the object has a newer version than the item's, as far as the storage tells. It never raises."""
        ...

    def publish(
        self, uploads: Sequence[Upload], deadline: Deadline, lineage: Sequence[str] = ()
    ) -> tuple[str, ...]: ...


class UnknownProviderError(LookupError):
    """No storage of the function is called so. Its text is a sentence that names it."""


class ProviderError(Exception):
    """A provider cannot be asked as it is described. Its text is a sentence that names it. Asking again at once gains nothing."""


def _s3(aws: Aws, provider: Provider | None) -> Store:
    from faassupervisor.storage.s3 import S3

    if provider is None:
        return S3.of(aws)
    from faassupervisor.storage.elsewhere import s3

    return s3(aws, provider)


def _webdav(aws: Aws, provider: Provider | None) -> Store:
    from faassupervisor.storage.webdav import WebDav

    assert provider is not None, "only S3 is there without a provider"
    return WebDav(aws, provider)


ROLES_OWN: Final = frozenset({"s3", "s3.default"})  # what the function's own role reaches
STORAGES: Final[Mapping[str, Callable[[Aws, Provider | None], Store]]] = {"s3": _s3, "minio": _s3, "webdav": _webdav}


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

    def provider(self, provider: str) -> Provider | None:
        """What is known of the provider; None for what the role reaches. Raises UnknownProviderError."""
        return self._providers.get(self._known(provider))

    def _known(self, provider: str) -> str:
        if provider in self._providers and kind_of(provider) in STORAGES:
            return provider
        if provider in ROLES_OWN:
            return "s3"
        raise UnknownProviderError(
            f"the function has no storage provider {provider!a}: it has {', '.join(sorted({'s3', *self._providers}))}"
        )


def kind_of(provider: str) -> str:
    return provider.split(".", 1)[0]


def expect_ours(item: ObjectItem, spec: Spec) -> None:
    """Raises UnknownProviderError for an object of a provider's that lies in none of the function's inputs.

    For what the role reaches, IAM says so. A provider's credentials may open more than the function is for, and an event is only what
    somebody wrote.
    """
    if item.provider not in {provider.name for provider in spec.providers}:
        return
    for rule in spec.inputs:
        folder = f"{rule.folder}/" if rule.folder else ""
        if (rule.provider, rule.bucket) == (item.provider, item.bucket) and item.key.startswith(folder):
            return
    raise UnknownProviderError(f"the function has no input of {item.provider} where this object lies")
