"""What is this image, as it lies where it lies? Nothing is re-compressed and nothing is sent; of a registry, only its small documents are read.

An image that Lambda cannot run is no error here: what stands against it is part of the answer (`inspecting_verdict`).
"""

from __future__ import annotations

import dataclasses
import io
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from faassupervisor import contract
from scar.errors import NotFoundError, ScarError
from scar.limits import MIB, SCRIPT_BYTES
from scar.package import oci
from scar.package.compress import GZIP_MAGIC, ZSTD_MAGIC, plain
from scar.package.derive import AGENT_HISTORY, MAX_CONFIG_BYTES, image_process
from scar.package.layer import memory_blob
from scar.package.source.archive import Archive
from scar.package.source.layout import Layout
from scar.package.source.resolve import Place, descriptor_of, parse, resolve, small_blob
from scar.package.source.savefile import entry_of

_INDEXES: Final = frozenset({oci.OCI_INDEX, oci.DOCKER_LIST})
_CONFIGS: Final = frozenset({oci.OCI_CONFIG, oci.DOCKER_CONFIG})
_MAX_ENTRIES: Final = 1000
_MAX_DEPTH: Final = 4
_FUNCTION_LAYER_BYTES: Final = SCRIPT_BYTES + MIB
_PLAIN, _GZIP, _ZSTD = "application/vnd.oci.image.layer.v1.tar", oci.OCI_LAYER_GZIP, oci.OCI_LAYER_GZIP[:-4] + "zstd"


@dataclass(frozen=True, slots=True)
class Platform:
    """One of the images that a name stands for: `linux/arm64/v8`. `digest` is that of its manifest, where there is one."""

    name: str
    digest: str | None
    chosen: bool


@dataclass(frozen=True, slots=True)
class LayerFacts:
    """A layer as it is stored."""

    digest: str
    media_type: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class FunctionFacts:
    """What a derived image says of the function that it was made for. `spec` is None where it cannot be read."""

    agent: str
    spec: contract.Spec | None


@dataclass(frozen=True, slots=True)
class Inspection:
    """One image. `kind` says what its manifest is of: an image, or something that cannot be run.

    `digest` is that of the manifest, None where none is for the architecture or (in what `docker save` wrote) there is no manifest.
    `config_platform` is what the image's own configuration says. `scanned_bytes` is what the layers unpack to, once somebody has read them.
    """

    name: str
    architecture: str
    kind: str = "image"
    digest: str | None = None
    media_type: str = ""
    index_digest: str | None = None
    platforms: tuple[Platform, ...] = ()
    absent: str | None = None
    config_platform: str = ""
    layers: tuple[LayerFacts, ...] = ()
    process: contract.ImageProcess | None = None
    function: FunctionFacts | None = None
    scanned_bytes: int | None = None
    config: oci.Blob | None = None
    blobs: tuple[oci.Blob, ...] = dataclasses.field(default=(), repr=False, compare=False)

    @property
    def size_bytes(self) -> int:
        return sum(layer.size_bytes for layer in self.layers)

    @property
    def unpacked_bytes(self) -> int | None:
        """What the image unpacks to; None where only reading it all would tell."""
        if self.scanned_bytes is None and all(layer.media_type.endswith(".tar") for layer in self.layers):
            return self.size_bytes
        return self.scanned_bytes


def inspect_place(place: Place, architecture: str, *, name: str) -> Inspection:
    """What `place` leads to for linux/`architecture` (`amd64`, `arm64`). Raises NotFoundError when there is nothing of that name."""
    known = _Once(place)
    try:
        content, media_type = known.top()
        if parse(content, place.where).get("schemaVersion") == 1:
            raise oci.schema_1(place.where)
    except ScarError as error:
        if error.what != oci.schema_1(place.where).what:
            raise
        return Inspection(name, architecture, kind="schema 1")
    index_digest, entries = _entries(known, content, media_type, named=not isinstance(place, Layout))
    try:
        manifest = resolve(known, architecture)
    except NotFoundError as error:
        platforms = tuple(Platform(platform or "?", digest, chosen=False) for platform, digest in entries)
        return Inspection(name, architecture, index_digest=index_digest, platforms=platforms, absent=error.what)
    found = Inspection(name, architecture, index_digest=index_digest)
    return _inspected(known, manifest, found, entries)


def inspect_image(image: oci.Image, architecture: str, *, name: str) -> Inspection:
    """The same for an image that is at hand as a value."""
    return inspect_place(_Here(image, name), architecture, name=name)


# -- manifests --------------------------------------------------------------------------------------------------


class _Once:
    """A place whose small documents are asked for once."""

    def __init__(self, place: Place) -> None:
        self.where = place.where
        self._place = place
        self._top: tuple[bytes, str] | None = None
        self._manifests: dict[str, bytes] = {}
        self.blob: Callable[[oci.Descriptor], oci.Blob] = place.blob

    def top(self) -> tuple[bytes, str]:
        self._top = self._top or self._place.top()
        return self._top

    def manifest(self, descriptor: oci.Descriptor) -> bytes:
        if descriptor.digest not in self._manifests:
            self._manifests[descriptor.digest] = self._place.manifest(descriptor)
        return self._manifests[descriptor.digest]


class _Here:
    """An image as a place."""

    def __init__(self, image: oci.Image, where: str) -> None:
        self.where = where
        self._image = image
        self._blobs = {blob.descriptor.digest: blob for blob in (image.config, *(layer.blob for layer in image.layers))}

    def top(self) -> tuple[bytes, str]:
        return self._image.manifest, self._image.media_type

    def manifest(self, descriptor: oci.Descriptor) -> bytes:
        raise NotFoundError(f"there is no {descriptor.digest}", where=self.where)

    def blob(self, descriptor: oci.Descriptor) -> oci.Blob:
        return self._blobs[descriptor.digest]


Entries = Sequence[tuple[str | None, str]]


def _entries(place: _Once, content: bytes, media_type: str, *, named: bool) -> tuple[str | None, Entries]:
    """The digest of the index, if there is one that can be named, and every (platform, digest) that it leads to."""
    document = parse(content, place.where)
    if "manifests" not in document and (document.get("mediaType") or media_type) not in _INDEXES:
        return None, ()
    nested: list[str] = []
    entries = list(_walk(place, document, nested, depth=0))
    digest = "sha256:" + sha256(content).hexdigest() if named else next(iter(nested), None)
    return digest, entries


def _walk(
    place: _Once, document: Mapping[str, Any], nested: list[str], *, depth: int
) -> Iterator[tuple[str | None, str]]:
    """Depth and number are bounded, whatever an index says."""
    items = document.get("manifests")
    for item in items[:_MAX_ENTRIES] if isinstance(items, list) else ():
        descriptor = descriptor_of(item, place.where)
        if "vnd.docker.reference.type" in (item.get("annotations") or {}):
            continue  # BuildKit's provenance and SBOM
        if descriptor.media_type not in _INDEXES:
            yield _platform(item.get("platform")), descriptor.digest
        elif depth < _MAX_DEPTH and len(nested) < _MAX_ENTRIES:
            nested.append(descriptor.digest)
            inner = parse(place.manifest(descriptor), place.where)
            yield from _walk(place, inner, nested, depth=depth + 1)


def _platform(platform: object) -> str | None:
    if not isinstance(platform, dict):
        return None
    return "/".join(str(platform.get(key) or "") for key in ("os", "architecture", "variant")).strip("/") or None


def _inspected(place: _Once, manifest: bytes, found: Inspection, entries: Entries) -> Inspection:
    document = parse(manifest, place.where)
    digest = "sha256:" + sha256(manifest).hexdigest()
    found = dataclasses.replace(
        found,
        digest=digest,
        media_type=str(document.get("mediaType") or oci.OCI_MANIFEST),
        platforms=tuple(Platform(platform or "?", each, chosen=each == digest) for platform, each in entries),
    )
    if "config" not in document:
        return dataclasses.replace(found, kind="unknown")
    config_descriptor = descriptor_of(document["config"], place.where)
    items = document.get("layers")
    if config_descriptor.media_type not in _CONFIGS or not isinstance(items, list):
        return dataclasses.replace(found, kind=config_descriptor.media_type or "unknown")
    descriptors = [descriptor_of(item, place.where) for item in items[:_MAX_ENTRIES]]
    blob = place.blob(config_descriptor)
    config = parse(small_blob(blob, MAX_CONFIG_BYTES, place.where), place.where)
    blobs = tuple(place.blob(descriptor) for descriptor in descriptors)
    return _with_config(dataclasses.replace(found, layers=_layers(blobs), blobs=blobs, config=blob), config)


def _layers(blobs: Sequence[oci.Blob]) -> tuple[LayerFacts, ...]:
    known = (blob.descriptor for blob in blobs)
    return tuple(LayerFacts(each.digest, each.media_type, each.size) for each in known)


def _with_config(found: Inspection, config: Mapping[str, Any]) -> Inspection:
    platform = _platform(config) or ""
    process = image_process(config)
    derived = process.entrypoint and process.entrypoint[0].startswith(contract.AGENT_ROOT + "/")
    platforms = found.platforms or (Platform("?", found.digest, chosen=True),)
    return dataclasses.replace(
        found,
        config_platform=platform,
        platforms=tuple(
            dataclasses.replace(each, name=platform or "?") if each.chosen and each.name == "?" else each
            for each in platforms
        ),
        process=process,
        function=FunctionFacts(_agent(config), _spec(found.blobs)) if derived else None,
    )


def _agent(config: Mapping[str, Any]) -> str:
    """Which agent a derived image has, by its history."""
    history = config.get("history")
    for item in reversed(history if isinstance(history, list) else []):
        told = item.get("created_by") if isinstance(item, dict) else None
        if isinstance(told, str) and told.startswith(AGENT_HISTORY):
            return told.removeprefix(AGENT_HISTORY)
    return "unknown"


def _spec(blobs: Sequence[oci.Blob]) -> contract.Spec | None:
    """The spec in the uppermost layer; None where the layer is too large to be ours, or holds none that this release reads."""
    if not blobs or blobs[-1].descriptor.size > _FUNCTION_LAYER_BYTES:
        return None
    content = bytearray()
    try:
        for chunk in plain(blobs[-1].open(), blobs[-1].descriptor.digest):
            content += chunk
            if len(content) > _FUNCTION_LAYER_BYTES:
                return None
        with tarfile.open(fileobj=io.BytesIO(bytes(content)), mode="r:") as tar:
            member = tar.extractfile(contract.SPEC_PATH.lstrip("/"))
            return None if member is None else contract.Spec.from_json(member.read())
    except (ScarError, tarfile.TarError, KeyError, ValueError, TypeError, AttributeError):  # not written by us
        return None


# -- what `docker save` writes ----------------------------------------------------------------------------------


def inspect_saved(archive: Archive, architecture: str, *, wanted: str | None, name: str) -> Inspection:
    """An archive without an index: a configuration and layers, for one platform, with no manifest that a registry would name."""
    entry = entry_of(archive, architecture, wanted)
    content = archive.read(entry.config)
    config = memory_blob(content, oci.DOCKER_CONFIG)
    blobs = tuple(_saved_blob(archive, each) for each in entry.layers[:_MAX_ENTRIES])
    found = Inspection(
        name, architecture, media_type="docker-archive", layers=_layers(blobs), blobs=blobs, config=config
    )
    return _with_config(found, parse(content, archive.where))


def _saved_blob(archive: Archive, name: str) -> oci.Blob:
    """Named after its file: its digest would take reading it."""
    first = next(archive.chunks(name), b"")
    media_type = _GZIP if first.startswith(GZIP_MAGIC) else _ZSTD if first.startswith(ZSTD_MAGIC) else _PLAIN
    return oci.Blob(oci.Descriptor(media_type, name, archive.size(name)), lambda: archive.chunks(name))
