"""Code that nobody has made: what a design needs to know of it, so that its policies can be told without an image or an account."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scar.aws import names
from scar.design import Made, WithNodeImages, ZipAndJobImage
from scar.errors import UsageError

if TYPE_CHECKING:
    from scar.aws.clients import Aws
    from scar.aws.resources.code_objects import Tell
    from scar.design import Site
    from scar.design.site import StoredObject
    from scar.fdl.model import Function

_DIGEST = "0" * 64


@dataclass(frozen=True, slots=True)
class _Image:
    """design.FunctionImage."""

    digest: str = f"sha256:{_DIGEST}"
    size: int = 0

    def publish(self, aws: Aws, repository: str) -> None:
        raise UsageError("this image was never made")


@dataclass(frozen=True, slots=True)
class _Prepared:
    """design.PreparedImage."""

    uri_by_digest: str


@dataclass(frozen=True, slots=True)
class _Zip:
    """design.FunctionZip whose layers lie in a bucket: only when they are small they do not, and then nothing is read."""

    bucket: str | None
    sha256: str = _DIGEST
    size: int = 0
    objects: Sequence[StoredObject] = ()
    zip_name: str | None = None
    runs: str = ""

    @property
    def watch(self) -> Callable[[], AbstractContextManager[Tell]]:
        return lambda: nullcontext(lambda *_: None)

    def content(self) -> bytes:
        raise UsageError("this zip was never made")


def unmade(fn: Function, site: Site) -> Made:
    """What stands for the function's code."""
    code = _code(fn, site)
    images = {group.image for group in fn.jobs.nodes} - {None} if fn.jobs is not None else set()
    if images and isinstance(code, _Image | ZipAndJobImage):
        return WithNodeImages(code, {str(image): _Image() for image in images})
    return code


def _code(fn: Function, site: Site) -> _Image | _Prepared | _Zip | ZipAndJobImage:
    container = fn.lambda_.container
    if fn.lambda_.runtime != "image":
        zip_ = _Zip(fn.lambda_.deployment.bucket or names.state_bucket(site.account, site.region))
        return ZipAndJobImage(zip_, _Image()) if fn.jobs is not None else zip_
    if not container.create_image and container.image is not None:
        return _Prepared(f"{container.image.partition('@')[0]}@sha256:{_DIGEST}")
    return _Image()
