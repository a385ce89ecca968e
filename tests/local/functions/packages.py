"""Deployment packages for the tests: zips whose every byte can be chosen, and functions made of them."""

from __future__ import annotations

import io
import stat
import textwrap
import zipfile
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest
from botocore.exceptions import ClientError
from lambda_bench import Local

Member = tuple[zipfile.ZipInfo, bytes]


def member(
    name: str, content: bytes | str = b"", *, mode: int = 0o644, kind: int = stat.S_IFREG, method: int = 8
) -> Member:
    info = zipfile.ZipInfo(name, (2024, 1, 2, 3, 4, 6))
    info.external_attr = (kind | mode) << 16
    info.compress_type = method
    return info, content.encode() if isinstance(content, str) else content


def link(name: str, target: str) -> Member:
    return member(name, target, mode=0o777, kind=stat.S_IFLNK)


def folder(name: str, mode: int = 0o755) -> Member:
    return member(f"{name}/", mode=mode, kind=stat.S_IFDIR, method=0)


def archive(members: Iterable[Member]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as writer:
        for info, content in members:
            writer.writestr(info, content)
    return buffer.getvalue()


def package(files: Mapping[str, str]) -> bytes:
    """A zip of programs that everybody may read and run."""
    return archive(member(name, content, mode=0o755) for name, content in files.items())


ECHO = package({"app.py": "def handler(event, context):\n    return event\n"})


def code(text: str, **files: str) -> bytes:
    """A package whose app.py is this text."""
    return package({"app.py": textwrap.dedent(text), **files})


def make_zip(local: Local, name: str, zipped: bytes = ECHO, **more: Any) -> Any:
    settings = {"Runtime": "python3.13", "Handler": "app.handler", "Timeout": 10, "MemorySize": 256, **more}
    source = settings.pop("Code", {"ZipFile": zipped})
    return local.lambda_.create_function(FunctionName=name, Role=local.role, Code=source, **settings)


def refusal(action: Callable[[], Any]) -> tuple[str, str]:
    with pytest.raises(ClientError) as refused:
        action()
    error = refused.value.response["Error"]
    return error["Code"], error["Message"]


def layer(local: Local, name: str, *members: Member) -> str:
    content = {"ZipFile": archive(members)}
    return str(local.lambda_.publish_layer_version(LayerName=name, Content=content)["LayerVersionArn"])
