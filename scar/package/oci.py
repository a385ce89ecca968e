"""Container images as values: descriptors, blobs that can be opened, and whole single-platform images (OCI image-spec 1.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from scar.errors import ScarError

OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
OCI_LAYER_GZIP: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER_GZIP: Final = "application/vnd.docker.image.rootfs.diff.tar.gzip"
SCHEMA_1: Final = frozenset(
    {
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    }
)

CHUNK: Final = 1 << 20
MAX_MANIFEST_BYTES: Final = 4 << 20  # botocore ecr:ImageManifest, and what registries take

# Names of an architecture (uname's, Lambda's, a manifest's) → the manifest's.
_ARCHITECTURES: Final = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def architecture(name: str) -> str:
    """`amd64` or `arm64` for any of their names; raises ScarError for others, which AWS does not run."""
    try:
        return _ARCHITECTURES[name.lower()]
    except KeyError:
        raise ScarError(f"the architecture {name!r} is not one of {', '.join(_ARCHITECTURES)}") from None


def schema_1(where: str) -> ScarError:
    """The error for a manifest of Docker's first schema, by its content or by its media type (one of SCHEMA_1)."""
    return ScarError(
        "its manifest is of Docker's schema 1, which was given up in 2017: it names no configuration and Lambda does not take it",
        where=where,
        fix="Pull the image with an old Docker and push it again with a current one, or build it anew.",
    )


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Names content: `digest` is `sha256:<64 hex>` of exactly `size` bytes."""

    media_type: str
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Blob:
    """Content that can be read any number of times.

    `open` answers chunks of at most CHUNK bytes and raises at the end when they did not hash to the digest.
    `repository` is where it already lies in the registry `host`, so that a push to the same host can mount it.
    `open_at` answers what lies from a byte on, where that can be had without reading what is before it; whoever takes a blob
    from its middle verifies the whole.
    """

    descriptor: Descriptor
    open: Callable[[], Iterator[bytes]] = field(compare=False)
    host: str | None = None
    repository: str | None = None
    open_at: Callable[[int], Iterator[bytes]] | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Layer:
    """A gzip-compressed tar and the digest of what it unpacks to (`diff_id`)."""

    blob: Blob
    diff_id: str


@dataclass(frozen=True, slots=True)
class Image:
    """A single-platform image: `digest` is that of `manifest`, whose bytes are kept as they were or will be sent."""

    manifest: bytes
    media_type: str
    digest: str
    config: Blob
    layers: tuple[Layer, ...]

    @property
    def size(self) -> int:
        """Compressed bytes of all layers."""
        return sum(layer.blob.descriptor.size for layer in self.layers)
