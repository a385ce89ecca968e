"""What a function's code is made into before it is planned: a zip, an image, both, or an image that is there already."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from scar.commands.function_image import FunctionImage
from scar.errors import UsageError

if TYPE_CHECKING:
    from scar.aws.clients import Aws
    from scar.design import FunctionZip, Made
    from scar.fdl.model import Function
    from scar.package.prepared import PreparedImage
    from scar.report import Report
    from scar.settings import Settings


def made(report: Report, settings: Settings, aws: Aws, fn: Function) -> Made:
    """What the definition asks for. Batch takes images only, so a zip whose runs may be jobs has one beside it; nodes of a job may run
    images of their own. Warnings are said.
    """
    code = _made(report, settings, aws, fn)
    images = {group.image for group in fn.jobs.nodes} if fn.jobs is not None else set()
    if not images - {None}:
        return code
    from scar.design import WithNodeImages, ZipAndJobImage

    assert isinstance(code, FunctionImage | ZipAndJobImage), "a definition that names other images derives its own"
    others = sorted(image for image in images if image is not None)
    return WithNodeImages(code, {image: _image(report, settings, aws, _running(fn, image)) for image in others})


def _running(fn: Function, image: str) -> Function:
    """The same function in another image: the agent, the spec and the script are the same."""
    container = replace(fn.lambda_.container, image=image, image_file=None)
    return replace(fn, lambda_=replace(fn.lambda_, container=container))


def _made(report: Report, settings: Settings, aws: Aws, fn: Function) -> Made:
    if fn.lambda_.runtime != "image":
        code = _zip(report, settings, aws, fn)
        if fn.jobs is None:
            return code
        from scar.design import ZipAndJobImage

        return ZipAndJobImage(code, _image(report, settings, aws, fn))
    if not fn.lambda_.container.create_image:
        return _prepared(report, aws, fn)
    return _image(report, settings, aws, fn)


def _prepared(report: Report, aws: Aws, fn: Function) -> PreparedImage:
    from scar.package.prepared import prepared_image

    prepared = prepared_image(fn, aws)
    if fn.jobs is not None and not prepared.has_agent:
        raise UsageError(
            f"SCAR's agent is not in the image, and without it nothing is handed over to Batch (`execution_mode: {fn.lambda_.execution_mode}`)",
            where=f"{fn.name}: {fn.lambda_.container.image}",
            fix="Push one with `scar image push -f FILE --to REFERENCE`, or write `execution_mode: lambda`.",
        )
    _warn(report, fn, prepared.warnings)
    return prepared


def _zip(report: Report, settings: Settings, aws: Aws, fn: Function) -> FunctionZip:
    from scar.aws import names
    from scar.package.ecr import absence_explained, ecr_keychain
    from scar.package.zips.runtime import function_zip

    preparing = report.progress(f"preparing the code of {fn.name}")
    with absence_explained(aws, fn.lambda_.container.image), preparing as progress:
        zip_ = function_zip(
            fn,
            cache=settings.cache,
            tell=progress,
            keychain=ecr_keychain(aws),
            state_bucket=names.state_bucket(aws.account, aws.region),
            prefix=names.code_prefix(aws.account, fn.name),
            loopback=settings.local.value,
            docker_host=settings.docker_host,
        )
    _warn(report, fn, zip_.warnings)
    return replace(zip_, watch=lambda: report.progress(f"uploading the code of {fn.name}"))


def _warn(report: Report, fn: Function, warnings: Iterable[str]) -> None:
    for warning in warnings:
        report.complain(f"warning: {fn.name}: {warning}")


def _image(report: Report, settings: Settings, aws: Aws, fn: Function) -> FunctionImage:
    from scar.package import function_image
    from scar.package.ecr import absence_explained, ecr_keychain

    preparing = report.progress(f"preparing the image of {fn.name}")
    with absence_explained(aws, fn.lambda_.container.image), preparing as progress:
        image = function_image(
            fn, cache=settings.cache, tell=progress, keychain=ecr_keychain(aws), docker_host=settings.docker_host
        )
        return FunctionImage(image, report, settings.cache)
