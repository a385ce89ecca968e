"""Where is the image that a name or a path leads to? As `source.open_image` finds it, but left as it is."""

from __future__ import annotations

from pathlib import Path

from scar.package import oci
from scar.package.inspecting import Inspection, inspect_image, inspect_place, inspect_saved
from scar.package.progress import Tell, ignore
from scar.package.registry import Registry, reference
from scar.package.registry.credentials import Keychain
from scar.package.registry.network import network_here
from scar.package.source import SCRATCH, Remote
from scar.package.source.archive import Archive, open_archive
from scar.package.source.layout import Layout
from scar.package.source.scratch import scratch
from scar.package.source.store import saved_image
from scar.package.source.transports import named


def inspect(
    image: str | None,
    image_file: Path | None,
    *,
    architecture: str,
    cache: Path,
    keychain: Keychain,
    folder: Path = Path(),
    docker_host: str | None = None,
    tell: Tell = ignore,
) -> Inspection:
    """What the image is, for linux/`architecture`. The arguments are those of `source.open_image`.

    Raises NotFoundError when there is no such image, DeniedError when it may not be seen.
    """
    architecture = oci.architecture(architecture)
    if image_file is not None:
        return _in_file(open_archive(image_file, cache=cache, tell=tell), None, architecture, str(image_file))
    assert image is not None, "an image is named either by `image` or by `image_file`"
    if image == SCRATCH:
        return inspect_image(scratch(architecture), architecture, name=SCRATCH)
    name = named(image, folder)
    match name.kind:
        case "registry":
            known = reference.parse(name.name)
            place = Remote(registry_of(known.host, keychain), known)
            return inspect_place(place, architecture, name=str(known))
        case "file":
            return _in_file(open_archive(name.path, cache=cache, tell=tell), name.wanted, architecture, image)
        case store:
            saved = saved_image(
                store, name.name, architecture=architecture, docker_host=docker_host, cache=cache, tell=tell
            )
            return _in_file(open_archive(saved, cache=cache, tell=tell), None, architecture, image)


def registry_of(host: str, keychain: Keychain) -> Registry:
    """A registry as this user and this machine reach it."""
    credentials = keychain(host)
    endpoint = credentials.endpoint if credentials else None
    return Registry(host, credentials, endpoint=endpoint, renew=lambda: keychain(host), network=network_here())


def _in_file(archive: Archive, wanted: str | None, architecture: str, name: str) -> Inspection:
    if archive.find("index.json") is None and archive.find("manifest.json") is not None:
        return inspect_saved(archive, architecture, wanted=wanted, name=name)
    return inspect_place(Layout(archive, architecture, wanted), architecture, name=name)
