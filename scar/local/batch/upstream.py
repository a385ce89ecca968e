"""Images of registries other than the local ECR: Docker Hub's, or one on this machine. Fetched with this user's own logins.

Layers are fetched only where the image is not unpacked yet, and kept no longer than it takes to unpack them.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, overload

from scar.errors import ScarError
from scar.package import oci
from scar.package.registry import reference
from scar.package.source import open_image

PULL_S: Final = 1800.0  # of all layers together


@dataclass(frozen=True, slots=True)
class Fetched:
    """What an image is made of; `layers` are fetched when they are looked at."""

    digest: str
    config: Mapping[str, Any]
    layers: Sequence[Path]


def fetch(name: str, folder: Path) -> Fetched:
    """The image for this machine. `folder` is this fetch's own. Raises ScarError."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = str(reference.parse(name))
    image = open_image(wanted, None, architecture=os.uname().machine, cache=folder / "cache")
    config = json.loads(b"".join(image.config.open()))
    return Fetched(image.digest, config, _Layers(image, folder))


class _Layers(Sequence[Path]):
    """Each file is named by its digest, as whoever unpacks it wants it, and goes when the next is asked for."""

    def __init__(self, image: oci.Image, folder: Path) -> None:
        self._image, self._folder = image, folder
        self._deadline = time.monotonic() + PULL_S

    def __len__(self) -> int:
        return len(self._image.layers)

    @overload
    def __getitem__(self, index: int) -> Path: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Path]: ...

    def __getitem__(self, index: int | slice) -> Path | Sequence[Path]:
        if isinstance(index, slice):
            return [self._fetch(layer) for layer in self._image.layers[index]]
        return self._fetch(self._image.layers[index])

    def __iter__(self) -> Iterator[Path]:
        for layer in self._image.layers:
            path = self._fetch(layer)
            yield path
            path.unlink(missing_ok=True)

    def _fetch(self, layer: oci.Layer) -> Path:
        path = self._folder / layer.blob.descriptor.digest.partition(":")[2]
        with path.open("wb") as file:
            for chunk in layer.blob.open():
                file.write(chunk)
                if time.monotonic() > self._deadline:
                    raise ScarError(f"the image was not fetched within {PULL_S:.0f} s")
        return path


def forget(folder: Path) -> None:
    """Remove what a fetch left."""
    shutil.rmtree(folder, ignore_errors=True)
