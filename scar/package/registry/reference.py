"""Names of images: `[host[:port]/]repository[:tag][@digest]`, read as Docker reads them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from scar.errors import UsageError

DOCKER_HUB: Final = "docker.io"
# distribution/reference: path components, tags and digests of the distribution specification 1.1.
_COMPONENT: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY: Final = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_HOST: Final = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::\d{1,5})?")
_MAX_REPOSITORY_CHARS: Final = 255


@dataclass(frozen=True, slots=True)
class Reference:
    """`tag_or_digest` is what the registry is asked for: the digest when the name has one."""

    host: str
    repository: str
    tag_or_digest: str

    @property
    def is_pinned(self) -> bool:
        return _DIGEST.fullmatch(self.tag_or_digest) is not None

    def __str__(self) -> str:
        separator = "@" if self.is_pinned else ":"
        return f"{self.host}/{self.repository}{separator}{self.tag_or_digest}"


def is_digest(text: str) -> bool:
    return _DIGEST.fullmatch(text) is not None


def parse(name: str) -> Reference:
    """Read a name. Without a host it is Docker Hub's (`busybox` is `docker.io/library/busybox:latest`).

    Raises UsageError where the name breaks the rules of registries.
    """
    rest, at, digest = name.partition("@")
    if at and not is_digest(digest):
        raise UsageError(f"{digest!r} is not a digest: `sha256:` and 64 hexadecimal digits are expected", where=name)
    first, slash, path = rest.partition("/")
    if not (slash and (first == "localhost" or re.search(r"[.:\[]", first))):
        first, path = DOCKER_HUB, rest
    if not _HOST.fullmatch(first):
        raise UsageError(f"{first!r} is not a registry's host", where=name)
    repository, colon, tag = path.partition(":")
    if first in (DOCKER_HUB, "index.docker.io"):
        first = DOCKER_HUB
        repository = repository if "/" in repository else f"library/{repository}"
    if not _REPOSITORY.fullmatch(repository) or len(repository) > _MAX_REPOSITORY_CHARS:
        raise UsageError(
            f"{repository!r} is not a repository's name",
            where=name,
            fix="Use lower-case letters, digits, and `.`, `_`, `-`, `/` between them.",
        )
    if colon and not _TAG.fullmatch(tag):
        raise UsageError(f"{tag!r} is not a tag", where=name)
    return Reference(first, repository, digest or tag or "latest")
