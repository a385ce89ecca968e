"""Where a user's image comes from: nothing (`scratch`), a file, a store of this machine, or a registry. All become the same value.

Nothing is trusted: every blob is verified against its digest while it is read, sizes are bounded before they are copied.
Layers come out gzip-compressed, because Lambda takes no others.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from scar.errors import ScarError, UsageError
from scar.package import oci
from scar.package.progress import Tell, ignore
from scar.package.registry import Registry, reference
from scar.package.registry.credentials import Keychain, login_files
from scar.package.registry.network import Network, network_here
from scar.package.source.archive import open_archive
from scar.package.source.layout import Layout
from scar.package.source.resolve import Place, image_of, resolve
from scar.package.source.savefile import is_saved, read_saved
from scar.package.source.scratch import scratch
from scar.package.source.store import forget, saved_image
from scar.package.source.transports import named

SCRATCH: Final = "scratch"


def open_image(
    image: str | None,
    image_file: Path | None,
    *,
    architecture: str,
    cache: Path,
    keychain: Keychain | None = None,
    tell: Tell = ignore,
    folder: Path = Path(),
    docker_host: str | None = None,
    network: Network | None = None,
) -> oci.Image:
    """The image for linux/`architecture`, its layers not yet read (but those that must be compressed: they are, in `cache`).

    `image` is `scratch`, a registry's name for an image, or a name with a transport (`transports.named`), a path in which starts from
    `folder`. `image_file` is what `docker save`, `podman save`, `skopeo copy` or `buildah push` wrote: an archive (also compressed) or
    an OCI layout directory. Exactly one of the two is given. `docker_host` is what DOCKER_HOST says.
    `network` is how registries are reached; None: as the environment says.
    """
    if (image is None) == (image_file is None):
        raise UsageError("an image is named either by `image` or by `image_file`")
    architecture = oci.architecture(architecture)
    if image_file is not None:
        return _from_file(image_file, None, architecture, cache, tell)
    assert image is not None
    if image == SCRATCH:
        return scratch(architecture)
    name = named(image, folder)
    if name.kind == "registry":
        network = network or network_here()
        place = _remote(reference.parse(name.name), keychain or docker_login(network), network)
        return image_of(place, resolve(place, architecture), cache=cache, tell=tell)
    if name.kind == "file":
        return _from_file(name.path, name.wanted, architecture, cache, tell)
    archive = saved_image(
        name.kind, name.name, architecture=architecture, docker_host=docker_host, cache=cache, tell=tell
    )
    try:
        return _from_file(archive, None, architecture, cache, tell)
    except ScarError:
        forget(archive)
        raise


def docker_login(network: Network | None = None) -> Keychain:
    """What this user's `docker login` or `podman login` wrote."""
    return login_files((network or network_here()).login_files)


def _from_file(path: Path, wanted: str | None, architecture: str, cache: Path, tell: Tell) -> oci.Image:
    archive = open_archive(path, cache=cache, tell=tell)
    if is_saved(archive):
        return read_saved(archive, architecture=architecture, wanted=wanted, cache=cache, tell=tell)
    place: Place = Layout(archive, architecture, wanted)
    return image_of(place, resolve(place, architecture), cache=cache, tell=tell)


def _remote(name: reference.Reference, keychain: Keychain, network: Network) -> Place:
    credentials = keychain(name.host)
    endpoint = credentials.endpoint if credentials else None
    registry = Registry(name.host, credentials, endpoint=endpoint, renew=lambda: keychain(name.host), network=network)
    return Remote(registry, name)


class Remote:
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
