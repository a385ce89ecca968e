"""From whatever a name or an archive leads to, down to one image for one platform.

Indexes are followed to the manifest of the platform, attestations are passed over, sizes are bounded before anything is read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from scar.errors import NotFoundError, ScarError
from scar.limits import LAMBDA_IMAGE_BYTES
from scar.package import oci
from scar.package.compress import ZSTD_SUFFIX, compressed_layer
from scar.package.derive import MAX_CONFIG_BYTES, MAX_LAYERS
from scar.package.layer import memory_blob
from scar.package.progress import Tell
from scar.package.registry.reference import is_digest

_MAX_DEPTH: Final = 4
_MAX_ENTRIES: Final = 1000
_INDEXES: Final = frozenset({oci.OCI_INDEX, oci.DOCKER_LIST})
_GZIP_LAYERS: Final = frozenset({oci.OCI_LAYER_GZIP, oci.DOCKER_LAYER_GZIP})
_OTHER_LAYERS: Final = frozenset(
    {
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.v1.tar" + ZSTD_SUFFIX,
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.diff.tar.zstd",
    }
)
_FOREIGN_LAYERS: Final = (
    "application/vnd.docker.image.rootfs.foreign.",
    "application/vnd.oci.image.layer.nondistributable.",
)
_NO_PLATFORM: Final = "unknown/unknown"  # BuildKit's, of what is no image
_CONFIGS: Final = frozenset({oci.OCI_CONFIG, oci.DOCKER_CONFIG})
# arm64 has one variant; of amd64's the lowest runs everywhere.
_VARIANTS: Final[Mapping[str, Sequence[str]]] = {"amd64": ("", "v1", "v2", "v3", "v4"), "arm64": ("", "v8")}


class Place(Protocol):
    """Where manifests and blobs are: `where` names it in messages. Answers are verified against their digests."""

    where: str

    def top(self) -> tuple[bytes, str]:
        """What the place's name leads to: an index or a manifest, and its media type ('' where only the content tells)."""
        ...

    def manifest(self, descriptor: oci.Descriptor) -> bytes: ...

    def blob(self, descriptor: oci.Descriptor) -> oci.Blob: ...


def resolve(place: Place, architecture: str) -> bytes:
    """The manifest for linux/`architecture`. Raises NotFoundError when the image is not made for it."""
    content, media_type = place.top()
    for _ in range(_MAX_DEPTH):
        document = parse(content, place.where)
        kind = document.get("mediaType") or media_type
        if "manifests" not in document and kind not in _INDEXES:
            return content
        descriptor = _choose(_items(document, "manifests", place.where), architecture, place.where)
        content, media_type = place.manifest(descriptor), descriptor.media_type
    raise ScarError(f"indexes lead to indexes more than {_MAX_DEPTH} deep", where=place.where)


def image_of(place: Place, manifest: bytes, *, cache: Path, tell: Tell) -> oci.Image:
    """The image that a manifest describes, every layer as gzip."""
    document = parse(manifest, place.where)
    _refuse_old(document, place.where)
    descriptors = [descriptor_of(item, place.where) for item in _items(document, "layers", place.where)]
    check_sizes([descriptor.size for descriptor in descriptors], place.where)
    config_descriptor = descriptor_of(document["config"], place.where)
    if config_descriptor.media_type not in _CONFIGS:
        raise ScarError(
            f"not a container image: its configuration is {config_descriptor.media_type!r}",
            where=place.where,
        )
    config = small_blob(place.blob(config_descriptor), MAX_CONFIG_BYTES, place.where)
    diff_ids = diff_ids_of(parse(config, place.where), len(descriptors), place.where)
    layers = tuple(
        _layer(place, descriptor, diff_id, cache, tell)
        for descriptor, diff_id in zip(descriptors, diff_ids, strict=True)
    )
    digest = memory_blob(manifest, oci.OCI_MANIFEST).descriptor.digest
    media_type = str(document.get("mediaType") or oci.OCI_MANIFEST)
    return oci.Image(manifest, media_type, digest, memory_blob(config, config_descriptor.media_type), layers)


def _refuse_old(document: Mapping[str, Any], where: str) -> None:
    if document.get("schemaVersion") == 1:
        raise oci.schema_1(where)
    if document.get("schemaVersion") != 2 or "config" not in document:
        raise ScarError("its manifest is of no kind that is known", where=where, fix="Name a container image.")


def check_sizes(sizes: Sequence[int], where: str) -> None:
    """Refuse before anything is copied what Lambda would refuse in the end."""
    if len(sizes) > MAX_LAYERS:
        raise ScarError(f"the image has {len(sizes)} layers, {MAX_LAYERS} are possible", where=where)
    if sum(sizes) > LAMBDA_IMAGE_BYTES:
        gib = sum(sizes) / 2**30
        raise ScarError(
            f"the image's layers have {gib:.1f} GiB; Lambda takes images of at most {LAMBDA_IMAGE_BYTES / 2**30:.0f} GiB",
            where=where,
            fix="Make the image smaller.",
        )


def diff_ids_of(config: Mapping[str, Any], layers: int, where: str) -> tuple[str, ...]:
    """What each layer unpacks to, as the image's configuration says."""
    rootfs = config.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(diff_ids, list) or not all(isinstance(item, str) and is_digest(item) for item in diff_ids):
        raise ScarError("the image's configuration names no digests of its layers (rootfs.diff_ids)", where=where)
    if len(diff_ids) != layers:
        raise ScarError(f"the manifest has {layers} layers, the configuration {len(diff_ids)}", where=where)
    return tuple(diff_ids)


def descriptor_of(item: object, where: str) -> oci.Descriptor:
    if isinstance(item, dict):
        media_type, digest, size = item.get("mediaType", ""), item.get("digest"), item.get("size")
        sized = isinstance(size, int) and not isinstance(size, bool) and size >= 0
        if isinstance(media_type, str) and isinstance(digest, str) and sized and is_digest(digest):
            return oci.Descriptor(media_type, digest, int(size or 0))
    raise ScarError(f"not a descriptor with a SHA-256 digest and a size: {str(item)[:200]}", where=where)


def small_blob(blob: oci.Blob, limit: int, where: str) -> bytes:
    """A whole blob, refused before it is read when it is longer than `limit`."""
    if blob.descriptor.size > limit:
        raise ScarError(f"{blob.descriptor.digest} has {blob.descriptor.size} bytes, {limit} are read", where=where)
    return b"".join(blob.open())


def parse(content: bytes, where: str) -> Mapping[str, Any]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ScarError(f"a manifest or configuration is not JSON: {error}", where=where) from error
    if not isinstance(document, dict):
        raise ScarError("a manifest or configuration is not a JSON object", where=where)
    return document


def _items(document: Mapping[str, Any], key: str, where: str) -> Sequence[Any]:
    items = document.get(key)
    if not isinstance(items, list):
        raise ScarError(f"`{key}` is not a list", where=where)
    if len(items) > _MAX_ENTRIES:
        raise ScarError(f"`{key}` has {len(items)} entries, {_MAX_ENTRIES} are read", where=where)
    return items


def _choose(items: Sequence[Any], architecture: str, where: str) -> oci.Descriptor:
    """The entry for our platform; an only entry without a platform is taken at its word (its configuration is checked later)."""
    entries = [(_platform(item), item) for item in items if not _is_attestation(item)]
    if len(entries) == 1 and entries[0][0] is None:
        return descriptor_of(entries[0][1], where)
    wanted = [f"linux/{architecture}/{variant}".rstrip("/") for variant in _VARIANTS[architecture]]
    for platform in wanted:
        matching = [item for known, item in entries if known == platform]
        if len({str(item.get("digest")) for item in matching}) > 1:
            raise ScarError(
                f"there are {len(matching)} images for {platform}: which one is meant?",
                where=where,
                fix="Save a single image.",
            )
        if matching:
            return descriptor_of(matching[0], where)
    known = sorted({platform for platform, _ in entries if platform and platform != _NO_PLATFORM})
    raise NotFoundError(
        f"there is no image for linux/{architecture}, only for {', '.join(known) or 'no platform that is named'}",
        where=where,
        fix="Name another image, or set `architectures` to one of these." if known else None,
    )


def _platform(item: object) -> str | None:
    platform = item.get("platform") if isinstance(item, dict) else None
    if not isinstance(platform, dict):
        return None
    return "/".join(str(platform.get(key) or "") for key in ("os", "architecture", "variant")).rstrip("/")


def _is_attestation(item: object) -> bool:
    """BuildKit's provenance and SBOM entries lie beside the images they speak of."""
    annotations = item.get("annotations") if isinstance(item, dict) else None
    return isinstance(annotations, dict) and "vnd.docker.reference.type" in annotations


def _layer(place: Place, descriptor: oci.Descriptor, diff_id: str, cache: Path, tell: Tell) -> oci.Layer:
    if descriptor.media_type.startswith(_FOREIGN_LAYERS):
        raise ScarError(
            "a layer may not be copied, says its publisher (it is foreign, or non-distributable): Lambda has no way to it",
            where=f"{place.where}, {descriptor.digest}",
            fix="Use an image whose layers are all in its registry.",
        )
    if descriptor.media_type in _GZIP_LAYERS and descriptor.size > 0:
        return oci.Layer(place.blob(descriptor), diff_id)
    if descriptor.media_type in _OTHER_LAYERS or descriptor.media_type in _GZIP_LAYERS:
        return compressed_layer(place.blob(descriptor), diff_id, cache=cache, tell=tell)
    raise ScarError(
        f"a layer of the type {descriptor.media_type!r} cannot be run by Lambda",
        where=place.where,
        fix="Rebuild the image with ordinary (gzip-compressed) layers.",
    )
