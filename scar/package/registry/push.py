"""A whole image into one repository: what is there is left alone, the rest is mounted or sent, several blobs at once.

Nothing is held in memory or on disk but a chunk of each blob that is on its way.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from scar.errors import ScarError
from scar.package import oci
from scar.package.progress import Tell, ignore
from scar.package.registry.upload import How
from scar.package.unpacked import SIZE_BYTES, Budget

if TYPE_CHECKING:
    from scar.package.registry import Registry

_QUESTIONS: Final = 8  # at once: is it there?
_BLOBS: Final = 4  # on their way at once

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PushResult:
    """What became of an image's bytes: sent by us, mounted from another repository, or there before."""

    digest: str
    bytes_sent: int
    bytes_mounted: int
    bytes_present: int


class _CancelledError(ScarError):
    """Another blob of the same push has failed."""


def push(
    image: oci.Image, registry: Registry, repository: str, *, tag: str | None = None, tell: Tell = ignore
) -> PushResult:
    """Make `repository` hold the image, named by `tag` or by its digest alone.

    The manifest goes when all blobs are there: whoever reads the tag sees the old image or the new one. Raises ScarError before
    that when the layers turn out to unpack to more than Lambda takes.
    """
    layers = {layer.blob.descriptor.digest: layer.blob for layer in image.layers}
    blobs = {image.config.descriptor.digest: image.config} | layers
    total = sum(blob.descriptor.size for blob in blobs.values())
    progress = _Progress(total, len(layers), tell)
    budget = Budget(tuple(layer.blob for layer in image.layers))

    def is_there(blob: oci.Blob) -> bool:
        there = registry.has_blob(repository, blob)
        if there and budget.is_counting and blob.descriptor.digest in layers:
            budget.arrived(blob, registry.tail(repository, blob.descriptor, SIZE_BYTES))
        return there

    registry.greet()
    with _Workers(_QUESTIONS, progress.cancel) as workers:
        there = workers.each(is_there, blobs.values())
    present = [blob for blob, found in zip(blobs.values(), there, strict=True) if found]
    for blob in present:
        progress.end(blob, is_layer=blob.descriptor.digest in layers)
    # The largest first: it takes longest, and the small ones fill the lanes beside it.
    absent = sorted(
        (blob for blob, found in zip(blobs.values(), there, strict=True) if not found),
        key=lambda blob: -blob.descriptor.size,
    )

    def send(blob: oci.Blob) -> How:
        is_layer = blob.descriptor.digest in layers
        watched = budget.watched(blob) if is_layer else blob
        how = registry.send_blob(repository, watched, _Watch(progress, blob.descriptor.digest))
        if how is How.MOUNTED and budget.is_counting and is_layer:
            budget.arrived(blob, registry.tail(repository, blob.descriptor, SIZE_BYTES))
        progress.end(blob, is_layer=is_layer)
        return how

    with _Workers(_BLOBS, progress.cancel) as workers:
        hows = workers.each(send, absent)
    registry.put_manifest(repository, image, tag)
    count = dict.fromkeys(How, 0)
    for how, blob in zip(hows, absent, strict=True):
        count[how] += blob.descriptor.size
    return PushResult(
        digest=image.digest,
        bytes_sent=count[How.SENT] + len(image.manifest),
        bytes_mounted=count[How.MOUNTED],
        bytes_present=sum(blob.descriptor.size for blob in present),
    )


class _Workers:
    """Threads for the time of a block. When one fails, or Ctrl-C comes, the others are told and not waited for."""

    def __init__(self, count: int, cancel: Callable[[], None]) -> None:
        self._pool, self._cancel = ThreadPoolExecutor(count, thread_name_prefix="push"), cancel

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._cancel()
        self._pool.shutdown(wait=kind is None, cancel_futures=True)

    def each(self, work: Callable[[oci.Blob], T], blobs: Iterable[oci.Blob]) -> list[T]:
        """The answers in the order of the blobs. Raises the first error that is not the consequence of another."""
        futures = [self._pool.submit(work, blob) for blob in blobs]
        _, unfinished = wait(futures, return_when=FIRST_EXCEPTION)
        if unfinished:
            self._cancel()
        errors = [error for future in futures if (error := _error_of(future))]
        for error in sorted(errors, key=lambda error: isinstance(error, _CancelledError)):
            raise error
        return [future.result() for future in futures]


def _error_of(future: Future[T]) -> BaseException | None:
    return future.exception() if future.done() and not future.cancelled() else None


class _Progress:
    """Bytes and layers done of all blobs together, told from several threads; also how a failed push stops the others."""

    def __init__(self, total_bytes: int, layers: int, tell: Tell) -> None:
        self._total, self._layers, self._tell = total_bytes, layers, tell
        self._done: dict[str, int] = {}
        self._layers_done = 0
        self._lock = threading.Lock()
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        self._cancelled.set()

    def at(self, digest: str, position: int) -> None:
        """Of this blob so much has arrived."""
        if self._cancelled.is_set():
            raise _CancelledError("another part of the image could not be pushed")
        with self._lock:
            self._done[digest] = position
            self._told()

    def end(self, blob: oci.Blob, *, is_layer: bool) -> None:
        with self._lock:
            self._done[blob.descriptor.digest] = blob.descriptor.size
            self._layers_done += is_layer
            self._told()

    def _told(self) -> None:
        self._tell(sum(self._done.values()), self._total, f"push, {self._layers_done} of {self._layers} layers")


@dataclass(slots=True)
class _Watch:
    """Follows one blob on its way."""

    progress: _Progress
    digest: str
    position: int = 0

    def begin(self, position: int) -> None:
        self.position = position

    def sent(self, piece: bytes) -> None:
        self.position += len(piece)
        self.progress.at(self.digest, self.position)
