"""What is a function to the engine? Plain values: what a sandbox is made of, what it is asked, what it answered."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from scar.limits import LAMBDA_SYNC_PAYLOAD_BYTES
from scar.local.folders import Held

REPLY_BYTES: Final = LAMBDA_SYNC_PAYLOAD_BYTES + 100  # the number AWS names when it refuses a reply: 6291556
LATEST: Final = "$LATEST"


class LogSink(Protocol):
    """Where log lines go; a line is (milliseconds since 1970, text).

    `put` makes group and stream when they are absent, also for no lines; without `make`, lines for a group that is gone are dropped.
    """

    def put(
        self,
        group: str,
        stream: str,
        lines: Sequence[tuple[int, str]],
        *,
        account: str = ...,
        region: str = ...,
        make: bool = ...,
    ) -> None: ...


class Rootfs(Protocol):
    """Unpacks an image once, however many ask for it at the same time, and keeps it for as long as it is held."""

    def use(self, image_digest: str, layers: Sequence[Path]) -> Held: ...


@dataclass(frozen=True, slots=True)
class ZipPackage:
    """A zip function's code and layers, by the SHA-256 (hex) of each, and what runs them."""

    digest: str
    runtime: str
    handler: str
    layers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Configuration:
    """All that one sandbox of one function version depends on: two equal ones may share a warm sandbox, others never.

    It has either a `package` or an `image_digest`.
    """

    account: str
    region: str
    name: str
    version: str
    arn: str  # without qualifier
    role: str
    image_digest: str = ""
    package: ZipPackage | None = None
    entry_point: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    working_directory: str | None = None
    environment: tuple[tuple[str, str], ...] = ()
    memory_mib: int = 128
    timeout_s: int = 3
    tmp_mib: int = 512
    log_group: str = ""
    files: tuple[tuple[str, str], ...] = ()  # access point, and where it is mounted


@dataclass(frozen=True, slots=True)
class ImageProcess:
    """What an image's configuration document says about its process."""

    entry_point: tuple[str, ...]
    command: tuple[str, ...]
    environment: tuple[str, ...]
    working_directory: str

    @classmethod
    def parse(cls, document: Any) -> ImageProcess:
        """Raises CannotRunError when the document, which comes from whoever pushed the image, has another shape."""
        config = document.get("config") or {} if isinstance(document, dict) else None
        if not isinstance(config, dict):
            raise CannotRunError("the image's configuration is not a JSON object", lasting=True)
        where = config.get("WorkingDir") or "/"
        if not isinstance(where, str):
            raise CannotRunError("the image's WorkingDir is not a string", lasting=True)
        return cls(_strings(config, "Entrypoint"), _strings(config, "Cmd"), _strings(config, "Env"), where)


def _strings(config: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = config.get(key) or ()
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) and "\0" not in item for item in value):
        raise CannotRunError(f"the image's {key} is not a list of strings", lasting=True)
    return tuple(value)


@dataclass(frozen=True, slots=True)
class Invocation:
    """One request to run. `client_context` is JSON text, as the runtime expects it."""

    payload: bytes
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    client_context: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the caller is told. `failed` is AWS's `FunctionError: Unhandled`; `payload` is then an error document."""

    payload: bytes
    failed: bool
    version: str
    request_id: str = ""
    log_tail: bytes = b""
    status_code: int = 200


@dataclass(frozen=True, slots=True)
class Token:
    """An event that was accepted and lies on disk."""

    id: str
    request_id: str


class ThrottledError(Exception):
    """Too many at once. `reason` is AWS's word for which bound was met."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class CannotRunError(Exception):
    """The platform, not the function, is at fault: no image, no engine, no room. `lasting` when trying again cannot help."""

    def __init__(self, what: str, *, lasting: bool = False) -> None:
        super().__init__(what)
        self.lasting = lasting


class StoppingError(Exception):
    """The local AWS is shutting down: nothing is known about what the function would have answered."""


def error_document(kind: str, message: str) -> bytes:
    """Lambda's error document."""
    document: Mapping[str, str] = {"errorType": kind, "errorMessage": message}
    return json.dumps(document, separators=(",", ":")).encode()
