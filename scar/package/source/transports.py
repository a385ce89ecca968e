"""What does the name of an image name? A registry, a store of this machine, an archive or a layout: containers-transports(5).

`docker:NAME` is no transport: it is the image called `docker`, with a tag.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from scar.errors import UsageError

Store = Literal["docker-daemon", "containers-storage"]
Kind = Literal["registry", "file", Store]
DOCKER: Final[Store] = "docker-daemon"
PODMAN: Final[Store] = "containers-storage"
ARCHIVES: Final = ("docker-archive", "oci-archive", "oci")


@dataclass(frozen=True, slots=True)
class Named:
    """`name` is what the registry or the store is asked for, or '' for a file; `path` is that file or folder.

    `wanted` says which of several images in a file: a tag (OCI) or `name:tag` (docker-archive); None where there is only one.
    """

    kind: Kind
    name: str = ""
    path: Path = Path()
    wanted: str | None = None


def named(image: str, folder: Path) -> Named:
    """Read the name of an image; a path in it starts from `folder`. Raises UsageError for a transport without its argument."""
    transport, colon, rest = image.partition(":")
    if not colon:
        return Named("registry", image)
    if transport == "docker" and rest.startswith("//"):
        return Named("registry", rest[2:])
    if transport == DOCKER or transport == PODMAN:  # noqa: PLR1714, SIM109 — mypy narrows by these
        if not rest:
            raise UsageError(f"`{transport}:` is not followed by an image's name", where=image)
        return Named(transport, rest)
    if transport in ARCHIVES:
        path, _, wanted = rest.partition(":")
        if not path:
            raise UsageError(f"`{transport}:` is not followed by a path", where=image)
        return Named("file", path=folder / path, wanted=wanted or None)
    return Named("registry", image)
