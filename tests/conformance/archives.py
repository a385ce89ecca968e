"""How is an image written to a file? The forms that tools write: OCI layouts and archives, `docker save`, an index of platforms.

Written here byte by byte from the specifications, so that the product's own writers do not test its readers.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

_OCI: Final = "application/vnd.oci.image"
_DOCKER: Final = "application/vnd.docker"
Document = dict[str, Any]


@dataclass(frozen=True)
class Image:
    """Layers as uncompressed tars (lowest first), and the settings of the image's process as its configuration has them."""

    layers: Sequence[bytes]
    settings: Mapping[str, Any] = field(default_factory=dict)
    architecture: str = "amd64"

    @property
    def config(self) -> bytes:
        return _json(
            {
                "architecture": self.architecture,
                "os": "linux",
                "config": dict(self.settings),
                "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in self.layers]},
                "history": [{"created_by": "conformance"} for _ in self.layers],
            }
        )


Writer = Callable[[Image, Path], Path]


def oci_layout(image: Image, path: Path) -> Path:
    """A folder: gzip layers, OCI's media types."""
    store = _Blobs()
    return store.write_folder(path, [_manifest(store, image, gzipped)])


def oci_archive(image: Image, path: Path) -> Path:
    """The same as one tar."""
    store = _Blobs()
    return store.write_tar(path.with_suffix(".tar"), [_manifest(store, image, gzipped)])


def docker_schema_2(image: Image, path: Path) -> Path:
    """A layout whose manifest is Docker's, as `skopeo copy` leaves it."""
    store = _Blobs()
    return store.write_folder(path, [_manifest(store, image, gzipped, docker=True)])


def docker_save(image: Image, path: Path) -> Path:
    """`docker save` as it was for years: manifest.json, a configuration, uncompressed tars."""
    names = [f"{digest(layer)[7:]}/layer.tar" for layer in image.layers]
    config_name = f"{digest(image.config)[7:]}.json"
    listed = [{"Config": config_name, "RepoTags": ["conformance:1"], "Layers": names}]
    files = {"manifest.json": _json(listed), config_name: image.config, **dict(zip(names, image.layers, strict=True))}
    return _write_tar(path.with_suffix(".tar"), files)


def platforms(image: Image, path: Path) -> Path:
    """What `docker buildx` leaves: an index of two platforms, the wrong one first, and an attestation for each."""
    store = _Blobs()
    other = Image([tar_with("bin/never", b"not for this machine")], {"Cmd": ["/bin/never"]}, "arm64")
    entries = []
    for one in (other, image):
        described = _manifest(store, one, gzipped)
        entries.append({**described, "platform": {"os": "linux", "architecture": one.architecture}})
    for described in entries[:2]:
        note = store.put(_json({"_type": "https://in-toto.io/Statement/v0.1"}), "application/vnd.in-toto+json")
        attestation = {
            "schemaVersion": 2,
            "mediaType": f"{_OCI}.manifest.v1+json",
            "config": store.put(b"{}", f"{_OCI}.config.v1+json"),
            "layers": [note],
        }
        about = {
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": described["digest"],
        }
        entries.append(
            {
                **store.put(_json(attestation), f"{_OCI}.manifest.v1+json"),
                "annotations": about,
                "platform": {"os": "unknown", "architecture": "unknown"},
            }
        )
    index = store.put(
        _json({"schemaVersion": 2, "mediaType": f"{_OCI}.index.v1+json", "manifests": entries}), f"{_OCI}.index.v1+json"
    )
    return store.write_tar(path.with_suffix(".tar"), [index])


def zstd_layers(image: Image, path: Path) -> Path:
    """Layers as zstd frames, which Lambda does not take."""
    store = _Blobs()
    return store.write_folder(path, [_manifest(store, image, zstd_stored)])


def gzipped(layer: bytes) -> tuple[bytes, str]:
    return gzip.compress(layer, 1, mtime=0), "gzip"


def zstd_stored(content: bytes) -> tuple[bytes, str]:
    """A zstd frame of raw blocks (RFC 8878, 3.1.1): valid, and made without a compressor."""
    out = bytearray(b"\x28\xb5\x2f\xfd" + b"\x00" + bytes([7 << 3]))  # no sizes, no checksum, a window of 128 KiB
    blocks = [content[start : start + (1 << 17)] for start in range(0, len(content), 1 << 17)] or [b""]
    for number, block in enumerate(blocks):
        last = number == len(blocks) - 1
        out += (len(block) << 3 | int(last)).to_bytes(3, "little") + block
    return bytes(out), "zstd"


def tar_with(name: str, content: bytes) -> bytes:
    return _tar({name: content})


def digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


class _Blobs:
    """The blobs of a layout."""

    def __init__(self) -> None:
        self._files: dict[str, bytes] = {}

    def put(self, content: bytes, media_type: str) -> Document:
        self._files[f"blobs/sha256/{digest(content)[7:]}"] = content
        return {"mediaType": media_type, "digest": digest(content), "size": len(content)}

    def _all(self, manifests: Sequence[Document]) -> dict[str, bytes]:
        return {
            "oci-layout": _json({"imageLayoutVersion": "1.0.0"}),
            "index.json": _json({"schemaVersion": 2, "manifests": list(manifests)}),
            **self._files,
        }

    def write_folder(self, path: Path, manifests: Sequence[Document]) -> Path:
        for name, content in self._all(manifests).items():
            place = path / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        return path

    def write_tar(self, path: Path, manifests: Sequence[Document]) -> Path:
        return _write_tar(path, self._all(manifests))


def _manifest(
    store: _Blobs, image: Image, compress: Callable[[bytes], tuple[bytes, str]], *, docker: bool = False
) -> Document:
    kinds = (
        f"{_DOCKER}.container.image.v1+json",
        f"{_DOCKER}.image.rootfs.diff.tar",
        f"{_DOCKER}.distribution.manifest.v2+json",
    )
    if not docker:
        kinds = (f"{_OCI}.config.v1+json", f"{_OCI}.layer.v1.tar", f"{_OCI}.manifest.v1+json")
    config_kind, layer_kind, manifest_kind = kinds
    layers = []
    for layer in image.layers:
        packed, method = compress(layer)
        layers.append(store.put(packed, f"{layer_kind}.{method}" if docker else f"{layer_kind}+{method}"))
    document = {
        "schemaVersion": 2,
        "mediaType": manifest_kind,
        "config": store.put(image.config, config_kind),
        "layers": layers,
    }
    return store.put(_json(document), manifest_kind)


def _write_tar(path: Path, files: Mapping[str, bytes]) -> Path:
    path.write_bytes(_tar(files))
    return path


def _tar(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def _json(document: object) -> bytes:
    return json.dumps(document, sort_keys=True).encode()
