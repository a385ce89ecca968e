"""Will Lambda take a function made of this image, and if not, why? What does SCAR change on the way? Pure.

Sources: lambda/latest/dg/images-create (platform, size, who runs), OCI image-spec 1.1 (media types).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from scar.limits import GIB, LAMBDA_IMAGE_BYTES
from scar.package import oci
from scar.package.derive import MAX_LAYERS
from scar.package.inspecting import Inspection, LayerFacts

_AGENT_LAYERS: Final = 2
_GZIP: Final = frozenset({oci.OCI_LAYER_GZIP, oci.DOCKER_LAYER_GZIP})
_LAYER_PREFIXES: Final = ("application/vnd.oci.image.layer.v1.tar", "application/vnd.docker.image.rootfs.diff.tar")
_PLAIN_OR_ZSTD: Final = ("", "+zstd", ".zstd")


@dataclass(frozen=True, slots=True)
class Verdict:
    """`why_not` is empty when Lambda takes it. `remarks` are what a user might wonder about. Each is a sentence."""

    why_not: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def accepted(self) -> bool:
        return not self.why_not


def verdict(found: Inspection) -> Verdict:
    """Judge an image as the base of a function; a derived one as the function's image that it is."""
    return Verdict(tuple(_why_not(found)), tuple(_remarks(found)))


def _why_not(found: Inspection) -> Iterator[str]:
    if found.absent is not None:
        yield f"{found.absent}."
        return
    if found.kind == "schema 1":
        yield "Its manifest is of Docker's schema 1, which was given up in 2017: push the image again with a current tool."
        return
    if found.kind != "image":
        yield f"It is not a container image: its configuration is {found.kind!r}."
        return
    wanted = f"linux/{found.architecture}"
    if not f"{found.config_platform}/".startswith(f"{wanted}/"):
        yield f"It is for {found.config_platform or 'no platform that is named'}, and {wanted} was asked for."
    bound = MAX_LAYERS if found.function else MAX_LAYERS - _AGENT_LAYERS
    if len(found.layers) > bound:
        yield f"It has {len(found.layers)} layers, and {bound} are possible: squash it."
    yield from _size(found)
    strange = sorted({layer.media_type for layer in found.layers if not _is_gzip(layer) and not _can_compress(layer)})
    if strange:
        yield f"It has layers of the type {', '.join(map(repr, strange))}: rebuild it with ordinary ones."


def _size(found: Inspection) -> Iterator[str]:
    """Lambda counts the image unpacked; compressed bytes are a lower bound."""
    unpacked = found.unpacked_bytes
    size = unpacked if unpacked is not None else found.size_bytes
    if size > LAMBDA_IMAGE_BYTES:
        how = "unpacked" if unpacked is not None else "compressed already"
        yield f"It has {size / GIB:.1f} GiB {how}, and Lambda takes images of at most {LAMBDA_IMAGE_BYTES // GIB} GiB."


def _remarks(found: Inspection) -> Iterator[str]:
    if found.process is None:
        return
    if found.function is not None:
        yield "It is a function's image already: name the image that it was made from to derive another."
        return
    others = [layer for layer in found.layers if not _is_gzip(layer) and _can_compress(layer)]
    if others:
        zstd = sum("zstd" in layer.media_type for layer in others)
        kinds = [f"{count} {kind}" for count, kind in ((zstd, "zstd"), (len(others) - zstd, "uncompressed")) if count]
        plural = "s" if len(others) > 1 else ""
        yield f"Lambda takes gzip layers only: {' and '.join(kinds)} layer{plural} will be re-compressed by SCAR."
    if found.process.user:
        yield f"USER {found.process.user} has no effect in Lambda, which runs everything as a user of its own."
    if not (found.process.entrypoint or found.process.command):
        yield "It has neither ENTRYPOINT nor CMD: its function needs an `init_script`."


def _is_gzip(layer: LayerFacts) -> bool:
    return layer.media_type in _GZIP


def _can_compress(layer: LayerFacts) -> bool:
    return any(layer.media_type == prefix + suffix for prefix in _LAYER_PREFIXES for suffix in _PLAIN_OR_ZSTD)
