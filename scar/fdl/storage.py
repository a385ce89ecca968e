"""The part of the model that says where files come from and go to."""

# Annotations are read at run time, as objects: no `from __future__ import annotations` here.
from dataclasses import dataclass
from typing import Annotated

from scar.fdl.key import Form, Key, Pattern


@dataclass(frozen=True, slots=True, kw_only=True)
class Io:
    """One item of `input` or `output`."""

    path: Annotated[
        str,
        Key(
            "The bucket, and a folder in it if there is one: `bucket[/folder…]`. A slash at the end is dropped.",
            Form(
                "storage-path",
                r"[^/].*",
                says="a bucket name, then folders: `bucket/folder`",
                source="Amazon S3 user guide, bucketnamingrules and object-keys",
            ),
        ),
    ]
    storage_provider: Annotated[
        str,
        Key(
            "Where the bucket is: `s3` is what the function's own role reaches, `TYPE.ID` an entry of `storage_providers`. `TYPE` alone means `TYPE.default`.",
            Pattern(
                r"(?i:s3|minio|onedata|webdav|rucio)(\.[A-Za-z0-9_-]{1,64})?",
                says="`s3`, or `TYPE.ID` with the type s3, minio, onedata, webdav or rucio, such as `minio.lab`",
            ),
        ),
    ] = "s3"
    prefix: Annotated[
        tuple[str, ...],
        Key("A file counts when its name begins with one of these; without any, every file does.", bare=True),
    ] = ()
    suffix: Annotated[
        tuple[str, ...],
        Key("A file counts when its name ends with one of these; without any, every file does.", bare=True),
    ] = ()

    @property
    def provider(self) -> str:
        """The whole name: `s3`, or `TYPE.ID` as `storage_providers` has it."""
        kind, _, name = self.storage_provider.partition(".")
        kind = kind.lower()
        return f"{kind}.{name or 'default'}" if kind != "s3" or name not in {"", "default"} else kind

    @property
    def bucket(self) -> str:
        return self.path.partition("/")[0]

    @property
    def folder(self) -> str:
        return self.path.partition("/")[2]
