"""What a zip runtime asks for and forbids, beyond single keys; and what only a zip runtime can do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from scar import limits
from scar.fdl.model import Function, Io, Lambda
from scar.fdl.places import shown
from scar.fdl.read import Reading

# Keys that mean something for a zip only, and what to do about them in a container image.
_ZIP_ONLY: Final = {
    "layers": "Put the files into the image, or write `runtime: python3.13`.",
    "extra_payload": "Put the files into the image, or write `runtime: python3.13`.",
    "deployment.bucket": "Remove it: a container image needs no bucket to be deployed.",
}
_NO_EFFECT: Final = ("deployment.max_payload_size", "deployment.max_s3_payload_size")


def zip_runtime(fn: Lambda, path: str, reading: Reading) -> None:
    """Add what is wrong with one function's zip runtime, or with a container image that has keys of one."""
    if not reading.sound(path) or f"{path}.runtime" in reading.failed:
        return
    _wrapper(fn, path, reading)
    if fn.runtime == "image":
        _image_runtime(fn, path, reading)
        return
    if not fn.container.create_image:
        key = f"{path}.container.create_image"
        what = "`create_image: false` is for a container image, and a zip runtime makes none"
        reading.problems.add(reading.place(key), key, what, "Remove it, or remove `runtime`.")
    _retired(fn, path, reading)


def code_starts_nothing(functions: Sequence[Function], io: Io, path: str, reading: Reading) -> None:
    """An input that covers the folder of code would start its function with every deployment."""
    for function in functions:
        bucket = function.lambda_.deployment.bucket
        code, reach = f"{bucket}/{limits.CODE_FOLDER}/", f"{io.path}/"
        if bucket == io.bucket and (code.startswith(reach) or reach.startswith(code)):
            reading.problems.add(
                reading.place(path),
                path,
                f"`{shown(io.path)}` reaches `{limits.CODE_FOLDER}/`, where the code of `{function.name}` is uploaded to",
                "Take a folder of the bucket as input, or another bucket for `deployment`.",
            )
            return


def _image_runtime(fn: Lambda, path: str, reading: Reading) -> None:
    given = {"layers": fn.layers, "extra_payload": fn.extra_payload, "deployment.bucket": fn.deployment.bucket}
    for name, fix in _ZIP_ONLY.items():
        key = f"{path}.{name}"
        if given[name] and reading.sound(key):
            what = f"`{name}` is for a zip runtime, and this function runs as a container image"
            reading.problems.add(reading.place(key), key, what, fix)
    for name in _NO_EFFECT:
        key = f"{path}.{name}"
        if reading.sound(key):
            reading.problems.warn(
                reading.place(key), key, f"`{name}` has no effect: it is for a zip runtime", "Remove it."
            )


def _wrapper(fn: Lambda, path: str, reading: Reading) -> None:
    if limits.LAMBDA_WRAPPER_VARIABLE in fn.environment:
        key = f"{path}.environment.Variables.{limits.LAMBDA_WRAPPER_VARIABLE}"
        what = f"`{limits.LAMBDA_WRAPPER_VARIABLE}` cannot be set: SCAR's agent is started by it"
        reading.problems.add(reading.place(key), key, what, "Remove it.")


def _retired(fn: Lambda, path: str, reading: Reading) -> None:
    since = limits.LAMBDA_PYTHON_DEPRECATED.get(fn.runtime)
    if since is not None:
        key = f"{path}.runtime"
        what = f"Lambda deprecated {fn.runtime} on {since}: the function is made with {limits.LAMBDA_PYTHON}, the container's own Python stays"
        reading.problems.warn(reading.place(key), key, what, f"Write `runtime: {limits.LAMBDA_PYTHON}`.")
