"""The forms of text that a pattern alone does not explain: bucket paths and images."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from scar import limits
from scar.fdl.places import shown


class FormError(ValueError):
    """The text does not have the form: what is wrong, and what to write."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what)
        self.what, self.fix = what, fix


def storage_path(text: str) -> str:
    """`bucket/folder` without the slash at the end; whether the bucket can be one is asked where its kind is known. Raises FormError."""
    if text.startswith("s3://"):
        raise FormError("a URI stands where a path was expected", f"Write it without `s3://`: `{shown(text[5:])}`.")
    if text.startswith("/"):
        raise FormError("the path begins with a slash", f"Begin with the bucket: `{shown(text.strip('/'))}`.")
    path = text.rstrip("/")
    first, slash, folder = path.partition("/")
    steps = folder.split("/") if slash else []
    if first in {".", ".."} or any(step in {"", ".", ".."} for step in steps):
        raise FormError(
            "the folder has an empty step, `.` or `..` in it", "Write the folder out: `bucket/folder/subfolder`."
        )
    if re.search(r"[\x00-\x1f\x7f]", folder):
        raise FormError("the folder holds a control character", "Use letters, digits and marks only.")
    if len(folder.encode()) >= limits.OBJECT_KEY_BYTES // 2:
        raise FormError(
            f"the folder is longer than {limits.OBJECT_KEY_BYTES // 2 - 1} bytes",
            f"A file's key has room for {limits.OBJECT_KEY_BYTES} bytes, its name included.",
        )
    return path


def bucket_of(path: str) -> str:
    """The bucket that a path of S3 begins with. Raises FormError when none can be called so."""
    bucket = path.partition("/")[0]
    if not re.fullmatch(limits.BUCKET_NAME_PATTERN, bucket):
        raise FormError(
            f"'{shown(bucket)}' cannot be the name of a bucket",
            "A bucket's name is 3 to 63 lower-case letters, digits, dots or hyphens, begins and ends with a letter or digit, and is no IP address.",
        )
    return bucket


def image(text: str) -> str:
    """An image as container tools name it: a reference, or a transport and what it takes. Raises FormError.

    `docker://NAME` is NAME. `docker:NAME` is the image `docker` with a tag, as everywhere.
    """
    transport, colon, rest = text.partition(":")
    if colon and transport in limits.IMAGE_STORES:
        image_reference(rest)
        return text
    if colon and transport in limits.IMAGE_ARCHIVES:
        if not rest.partition(":")[0].strip() or re.search(r"[\x00-\x1f\x7f]", rest):
            raise FormError(f"`{transport}:` is not followed by a path", f"Write `{transport}:folder/name`.")
        return text
    return image_reference(text.removeprefix("docker://"))


def image_path(text: str) -> str | None:
    """The path in the name of an image, when it is one of a file: `oci:folder:tag` → `folder`."""
    transport, colon, rest = text.partition(":")
    return rest.partition(":")[0] if colon and transport in limits.IMAGE_ARCHIVES else None


def image_reference(text: str) -> str:
    """A reference as the registries' grammar has it. Raises FormError."""
    scheme, found, rest = text.partition("://")
    if found:
        raise FormError(f"an image reference does not begin with `{shown(scheme)}://`", f"Write `{shown(rest)}`.")
    name = text.partition("@")[0]
    if len(text) <= 512 and re.fullmatch(limits.IMAGE_REFERENCE_PATTERN, text):
        if len(name) > limits.IMAGE_NAME_CHARS:
            raise FormError("the image's name is too long", f"A name has at most {limits.IMAGE_NAME_CHARS} characters.")
        return text
    lower = text.lower()
    if len(text) <= 512 and lower != text and re.fullmatch(limits.IMAGE_REFERENCE_PATTERN, lower):
        raise FormError(
            f"'{shown(text)}' has capital letters in its name",
            "Image names are in lower case; only a tag may have capitals.",
        )
    raise FormError(
        f"'{shown(text)}' is not an image reference",
        "Write `[registry/]name[:tag][@sha256:…]`, such as `ubuntu:24.04`.",
    )


FORMS: Final[Mapping[str, Callable[[str], str]]] = {"storage-path": storage_path, "image": image}
