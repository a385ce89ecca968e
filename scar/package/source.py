"""Where a user's image comes from: nothing (`scratch`), a file, or a registry. All three become the same value.

Nothing is trusted: every blob is verified against its digest while it is read, sizes are bounded before they are copied.
Layers come out gzip-compressed, because Lambda takes no others.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from scar.errors import UsageError
from scar.package import oci, reference
from scar.package.archive import open_archive
from scar.package.credentials import Keychain, anonymous, docker_keychain
from scar.package.progress import Tell, ignore
from scar.package.registry import Registry
from scar.package.resolve import Place, image_of, resolve
from scar.package.savefile import is_saved, read_saved
from scar.package.scratch import scratch

SCRATCH: Final = "scratch"


def open_image(
    image: str | None,
    image_file: Path | None,
    *,
    architecture: str,
    cache: Path,
    keychain: Keychain | None = None,
    tell: Tell = ignore,
) -> oci.Image:
    """The image for linux/`architecture`, its layers not yet read (but those that must be compressed: they are, in `cache`).

    `image` is `scratch` or a registry's name for an image; `image_file` is what `docker save`, `podman save`, `skopeo copy` or
    `buildah push` wrote: an archive (also gzip-compressed) or an OCI layout directory. Exactly one is given.
    """
    if (image is None) == (image_file is None):
        raise UsageError("an image is named either by `image` or by `image_file`")
    architecture = oci.architecture(architecture)
    if image_file is not None:
        return _from_file(image_file, architecture, cache, tell)
    assert image is not None
    if image == SCRATCH:
        return scratch(architecture)
    return _from_registry(reference.parse(image), architecture, cache, keychain or _docker_login(), tell)


def _from_file(path: Path, architecture: str, cache: Path, tell: Tell) -> oci.Image:
    archive = open_archive(path, cache=cache, tell=tell)
    if is_saved(archive):
        return read_saved(archive, cache=cache, tell=tell)
    manifest = resolve(archive, architecture)
    return image_of(archive, manifest, cache=cache, tell=tell)


def _from_registry(
    name: reference.Reference, architecture: str, cache: Path, keychain: Keychain, tell: Tell
) -> oci.Image:
    place: Place = _Remote(Registry(name.host, keychain(name.host)), name)
    manifest = resolve(place, architecture)
    return image_of(place, manifest, cache=cache, tell=tell)


class _Remote:
    """A Place in a registry."""

    def __init__(self, registry: Registry, name: reference.Reference) -> None:
        self._registry, self._name = registry, name
        self.where = str(name)

    def top(self) -> tuple[bytes, str]:
        manifest = self._registry.manifest(self._name.repository, self._name.tag_or_digest)
        return manifest.content, manifest.media_type

    def manifest(self, descriptor: oci.Descriptor) -> bytes:
        return self._registry.manifest(self._name.repository, descriptor.digest).content

    def blob(self, descriptor: oci.Descriptor) -> oci.Blob:
        return self._registry.blob(self._name.repository, descriptor)


def _docker_login() -> Keychain:
    try:
        home = Path.home()
    except RuntimeError:  # a user without a home directory has never logged in
        return anonymous
    return docker_keychain(home / ".docker" / "config.json")
