"""What `docker save` writes, and podman's and skopeo's `docker-archive`: `manifest.json`, a configuration, layer tars.

Newer Dockers write an OCI layout with a `manifest.json` beside it; podman makes links of the older names. All are read here.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scar.errors import NotFoundError, ScarError
from scar.package import oci
from scar.package.compress import GZIP_MAGIC, compressed_layer
from scar.package.derive import assemble
from scar.package.progress import Tell
from scar.package.source.archive import Archive
from scar.package.source.resolve import check_sizes, diff_ids_of, parse

_MANIFEST: Final = "manifest.json"
_HEX_NAME: Final = re.compile(r"(?:.*/)?([0-9a-f]{64})(?:\.json|\.tar)?")


@dataclass(frozen=True, slots=True)
class Entry:
    """One image of the archive: the names of its files."""

    config: str
    layers: tuple[str, ...]
    tags: tuple[str, ...]


def is_saved(archive: Archive) -> bool:
    return archive.find(_MANIFEST) is not None


def read_saved(archive: Archive, *, architecture: str, wanted: str | None, cache: Path, tell: Tell) -> oci.Image:
    """The image of the archive that is called `wanted`, or its only one (for the architecture).

    Its layers are compressed into `cache` where they are not compressed yet.
    """
    entry = entry_of(archive, architecture, wanted)
    check_sizes([archive.size(name) for name in entry.layers], archive.where)
    config = archive.read(entry.config)
    _check_name(entry.config, config, archive.where)
    document = parse(config, archive.where)
    diff_ids = diff_ids_of(document, len(entry.layers), archive.where)
    layers = [_layer(archive, name, diff_id, cache, tell) for name, diff_id in zip(entry.layers, diff_ids, strict=True)]
    return assemble(document, layers)


def entry_of(archive: Archive, architecture: str, wanted: str | None) -> Entry:
    """The image called `wanted`, or the only one (for the architecture); raises ScarError where there are several."""
    document = parse(b'{"images":' + archive.read(_MANIFEST) + b"}", archive.where)
    images = document["images"]
    if not isinstance(images, list) or not images:
        raise ScarError(
            f"{_MANIFEST} lists no image",
            where=archive.where,
            fix="Write the file with `docker save -o FILE IMAGE`, or `skopeo copy … oci-archive:FILE`.",
        )
    entries = [_entry(item, archive.where) for item in images]
    if wanted is not None:
        entries = [entry for entry in entries if any(_is_called(tag, wanted) for tag in entry.tags)]
        if not entries:
            tags = [tag for item in images for tag in _entry(item, archive.where).tags]
            raise NotFoundError(
                f"no image is called {wanted!r} here, only {', '.join(sorted(tags)) or 'ones without names'}",
                where=archive.where,
            )
    if len(entries) > 1:  # newer Dockers save every platform that they have of one name
        entries = [entry for entry in entries if _architecture(archive, entry) == architecture] or entries
    if len(entries) > 1:
        tags = sorted(tag for entry in entries for tag in entry.tags)
        raise ScarError(
            f"the archive holds {len(entries)} images ({', '.join(tags) or 'without names'})",
            where=archive.where,
            fix="Save a single image, or name one: `image: docker-archive:FILE:NAME:TAG`.",
        )
    return entries[0]


def _is_called(tag: str, wanted: str) -> bool:
    """`docker.io/library/x:1` is called `x:1` as well; a name without a tag is `latest`."""
    if ":" not in wanted.rpartition("/")[2]:
        wanted += ":latest"
    return tag == wanted or tag in (f"docker.io/library/{wanted}", f"docker.io/{wanted}", f"localhost/{wanted}")


def _architecture(archive: Archive, entry: Entry) -> object:
    return parse(archive.read(entry.config), archive.where).get("architecture")


def _entry(item: object, where: str) -> Entry:
    if isinstance(item, dict):
        config, layers, tags = item.get("Config"), item.get("Layers"), item.get("RepoTags") or []
        if isinstance(config, str) and isinstance(layers, list) and isinstance(tags, list):
            words = [config, *layers, *tags]
            if all(isinstance(word, str) for word in words):
                return Entry(config, tuple(layers), tuple(tags))
    raise ScarError(f"{_MANIFEST} is not what `docker save` writes", where=where)


def _check_name(name: str, config: bytes, where: str) -> None:
    """The configuration is named after its digest, which is the image's id."""
    named = _HEX_NAME.fullmatch(name)
    if named and named[1] != hashlib.sha256(config).hexdigest():
        raise ScarError(f"{name} does not hash to its name", where=where, fix="The archive is damaged: save it again.")


def _layer(archive: Archive, name: str, diff_id: str, cache: Path, tell: Tell) -> oci.Layer:
    """A plain tar is its own `diff_id`; a compressed one is verified by its name where that is a digest."""
    first = next(archive.chunks(name), b"")
    if not first.startswith(GZIP_MAGIC):
        blob = archive.content(name, "", _named_digest(archive, name) or diff_id)
        return compressed_layer(blob, diff_id, cache=cache, tell=tell)
    digest = _named_digest(archive, name)
    if digest is None:
        hashed = hashlib.sha256()
        for chunk in archive.chunks(name):
            hashed.update(chunk)
        digest = "sha256:" + hashed.hexdigest()
    return oci.Layer(archive.content(name, oci.DOCKER_LAYER_GZIP, digest), diff_id)


def _named_digest(archive: Archive, name: str) -> str | None:
    """Only in an OCI layout are files named after their own digest; the older names are ids of another kind."""
    named = re.fullmatch(r"blobs/sha256/([0-9a-f]{64})", name)
    return f"sha256:{named[1]}" if named else None
