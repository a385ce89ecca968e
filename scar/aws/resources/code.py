"""What a function runs, as Lambda takes it: an image by digest, or a zip by its SHA-256."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from scar.errors import ScarError

PackageType = Literal["Image", "Zip"]

HANDLER: Final = "scar.handler"  # asked for by Lambda; the wrapper script replaces what would read it


@dataclass(frozen=True, slots=True)
class ImageCode:
    """`uri` ends in `@sha256:…`."""

    uri: str

    @property
    def package_type(self) -> PackageType:
        return "Image"

    @property
    def shown(self) -> str:
        name, at, digest = self.uri.partition("@sha256:")
        return digest[:12] if at else name

    def __str__(self) -> str:
        return self.uri

    def sent(self) -> dict[str, Any]:
        return {"ImageUri": self.uri}


@dataclass(frozen=True, slots=True)
class ZipCode:
    """`sha256` is what Lambda calls CodeSha256. The zip is sent with the request, or taken from `place` (bucket, key) in S3."""

    sha256: str
    content: Callable[[], bytes] | None = field(default=None, compare=False, repr=False)
    place: tuple[str, str] | None = field(default=None, compare=False)

    @property
    def package_type(self) -> PackageType:
        return "Zip"

    @property
    def shown(self) -> str:
        return f"zip {self.sha256[:12]}"

    def __str__(self) -> str:
        return self.sha256

    def sent(self) -> dict[str, Any]:
        if self.place is not None:
            return {"S3Bucket": self.place[0], "S3Key": self.place[1]}
        if self.content is None:
            raise ScarError("the function's zip is known by its digest only and cannot be sent")
        return {"ZipFile": self.content()}


Code = ImageCode | ZipCode
