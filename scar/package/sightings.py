"""Where in a registry were layers put before? The next function's push can then mount them from there instead of sending them.

A note in the cache, not a truth: a registry that no longer has a layer there takes it as an upload like any other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from scar.package import oci
from scar.package.cache import in_cache, written_whole
from scar.package.progress import Tell, ignore
from scar.package.registry import Registry
from scar.package.registry.push import PushResult, push

_WORTH_BYTES: Final = 64 << 10  # a smaller layer is sent as quickly as it is mounted
_KEPT: Final = 1000


class Sightings:
    """What `cache` remembers of the registry `host`. For one process at a time at each host, the others wait."""

    def __init__(self, cache: Path, host: str) -> None:
        self._host = host
        self._directory = cache / "sightings" / hashlib.sha256(host.encode()).hexdigest()[:32]

    def push(
        self, image: oci.Image, registry: Registry, repository: str, *, tag: str | None = None, tell: Tell = ignore
    ) -> PushResult:
        """As `registry.push`, with what was seen before, and remembered for the next."""
        result = push(self.located(image), registry, repository, tag=tag, tell=tell)
        self.note(image, repository)
        return result

    def located(self, image: oci.Image) -> oci.Image:
        """The image, its layers telling where in this registry they were seen. What tells another place there keeps it."""
        seen = self._read()
        layers = tuple(
            replace(layer, blob=replace(layer.blob, host=self._host, repository=seen[layer.blob.descriptor.digest]))
            if layer.blob.host != self._host and layer.blob.descriptor.digest in seen
            else layer
            for layer in image.layers
        )
        return replace(image, layers=layers)

    def note(self, image: oci.Image, repository: str) -> None:
        """Remember that `repository` holds all layers of the image."""
        digests = [layer.blob.descriptor for layer in image.layers]
        fresh = {item.digest: repository for item in digests if item.size >= _WORTH_BYTES}
        with in_cache(self._directory):
            kept = [item for item in self._read().items() if item[0] not in fresh]
            document = dict([*kept, *fresh.items()][-_KEPT:])
            with written_whole(self._directory / "layers.json") as out:
                out.write(json.dumps(document).encode())

    def _read(self) -> Mapping[str, str]:
        with suppress(OSError, ValueError):  # nothing was noted, or it cannot be read: then nothing is known
            document = json.loads((self._directory / "layers.json").read_bytes())
            if isinstance(document, dict):
                return {key: value for key, value in document.items() if isinstance(value, str)}
        return {}
