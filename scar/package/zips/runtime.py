"""From a function to the one zip that Lambda unpacks at /var/task, for accounts that cannot use ECR. Nothing is sent from here.

    agent part (cached) + function/spec.json + function/script ─► zip
    the image's layers: looked through (scan), and named in the spec with where the agent finds them when the function starts

The image comes from its registry when everybody may read it there; else its layers are `packed`: kept in S3 with the function's code.
The agent asks a registry for blobs by digest and never for a manifest, which is what Docker Hub counts.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import ipaddress
import shutil
import socket
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from faassupervisor import contract
from scar.errors import DeniedError, NotFoundError, ScarError, UsageError
from scar.limits import LAMBDA_UNZIPPED_BYTES
from scar.package import oci
from scar.package.derive import image_process, read_config
from scar.package.layer import Directory, Entry, File, Link, layer_of
from scar.package.progress import Tell, ignore
from scar.package.registry import Registry
from scar.package.registry.credentials import Keychain
from scar.package.registry.network import is_loopback, network_here
from scar.package.registry.reference import DOCKER_HUB
from scar.package.source import open_image
from scar.package.spec import spec_of
from scar.package.zips.agent import AgentZip, add, agent_zip
from scar.package.zips.check import expect_fit, expect_own, expect_program, expect_room
from scar.package.zips.scan import scan

if TYPE_CHECKING:
    from scar.fdl.model import Function

PAYLOAD_ROOT: Final = f"{contract.AGENT_ROOT}/payload"  # inside the image's root, where the script sees it
PAYLOAD_VARIABLE: Final = "SCAR_PAYLOAD_DIR"


def _unwatched() -> AbstractContextManager[Tell]:
    return nullcontext(ignore)


@dataclass(frozen=True, slots=True)
class StoredObject:
    """Content that must lie in S3 under the hex digits of its SHA-256."""

    name: str
    size: int
    open: Callable[[], Iterator[bytes]] = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class FunctionZip:
    """The code of one function: `scar.design.FunctionZip` has the promises.

    `unzipped_bytes` is what it takes in /var/task. `files` are the function's own, which lie below `function/`.
    """

    agent: AgentZip = field(repr=False)
    files: tuple[tuple[str, bytes], ...] = field(repr=False)
    sha256: str
    size: int
    unzipped_bytes: int
    runs: str
    spec: contract.Spec = field(repr=False)
    bucket: str | None = None
    objects: tuple[StoredObject, ...] = ()
    zip_name: str | None = None
    warnings: tuple[str, ...] = ()
    watch: Callable[[], AbstractContextManager[Tell]] = field(default=_unwatched, compare=False, repr=False)

    def content(self) -> bytes:
        """The zip, for a request that holds all of it."""
        return b"".join(_zipped(self.agent, self.files))


def function_zip(
    fn: Function,
    *,
    cache: Path,
    tell: Tell = ignore,
    keychain: Keychain | None = None,
    state_bucket: str | None = None,
    prefix: str = "",
    loopback: bool = False,
    docker_host: str | None = None,
) -> FunctionZip:
    """The zip that `fn` runs as, and what must lie in S3 for it. The same definition, image and scar give the same bytes.

    What is packed goes below `prefix` of `deployment.bucket`, or of `state_bucket`. `loopback`: the function will run on this machine,
    so that a registry here can be asked. Raises UsageError when the image cannot be run this way.
    """
    settings = fn.lambda_
    container = settings.container
    name = container.image or (container.image_file.name if container.image_file else "")
    image = open_image(
        container.image,
        container.image_file,
        architecture=settings.architecture,
        cache=cache,
        keychain=keychain,
        tell=tell,
        folder=fn.source.parent if fn.source else Path(),
        docker_host=docker_host,
    )
    config = read_config(image)
    process = image_process(config)
    expect_own(config, process, settings.architecture, function=fn.name, agent_root=contract.AGENT_ROOT)
    script = None if settings.init_script is None else _read(settings.init_script)
    found = scan(image, settings.architecture, cache=cache, tell=tell)
    expect_fit(found, function=fn.name, image=name)
    expect_program(found, process, script, variables=container.environment, function=fn.name, image=name)
    payload, payload_bytes = _payload(fn)
    unpacked_bytes = found.unpacked_bytes + payload_bytes
    expect_room(unpacked_bytes, tmp_mib=settings.ephemeral_storage, function=fn.name, image=name)

    layers = (*image.layers, *payload)
    bucket = settings.deployment.bucket or state_bucket
    public = None if payload or settings.deployment.bucket else _public_source(image, loopback=loopback)
    if public is None and bucket is None:
        raise UsageError("the image's layers must be kept in a bucket", where=fn.name, fix="Set `deployment.bucket`.")
    packed = (
        ()
        if public
        else tuple(_stored(layer.blob) for layer in {layer.blob.descriptor.digest: layer for layer in layers}.values())
    )
    spec = spec_of(fn)
    spec = dataclasses.replace(
        spec,
        has_script=script is not None,
        image=process,
        environment={**spec.environment, **({PAYLOAD_VARIABLE: PAYLOAD_ROOT} if payload else {})},
        root=contract.RootFilesystem(
            digest=image.digest,
            layers=tuple(contract.RootLayer(each.blob.descriptor.digest, each.blob.descriptor.size) for each in layers),
            source=public or f"s3://{bucket}/{prefix}".rstrip("/"),
            unpacked_bytes=unpacked_bytes,
            loader=found.loader or "",
            glibc=found.glibc or "",
        ),
    )
    files = [("function/spec.json", spec.to_json())]
    if script is not None:
        files.append(("function/script", script))
    agent = agent_zip(settings.architecture, cache=cache, tell=tell)
    unzipped = agent.unzipped_bytes + sum(len(content) for _, content in files)
    _expect_size(unzipped, settings.deployment.max_s3_payload_size, fn.name)
    digest, size = _measured(agent, files)
    return _placed(
        FunctionZip(
            agent=agent,
            files=tuple(files),
            sha256=base64.b64encode(digest).decode(),
            size=size,
            unzipped_bytes=unzipped,
            runs=f"image from {public}" if public else f"image packed in s3://{bucket}",
            spec=spec,
            bucket=bucket if packed else None,
            objects=packed,
        ),
        digest.hex(),
        bucket=bucket,
        through_bucket=bool(settings.deployment.bucket) or size > settings.deployment.max_payload_size,
        function=fn.name,
    )


def _placed(made: FunctionZip, name: str, *, bucket: str | None, through_bucket: bool, function: str) -> FunctionZip:
    """The zip itself goes through the bucket when it is asked for, or too large for a request."""
    if not through_bucket:
        return made
    if bucket is None:
        raise UsageError("the code is too large for one request", where=function, fix="Set `deployment.bucket`.")
    agent, files = made.agent, made.files
    itself = StoredObject(name, made.size, lambda: _zipped(agent, files))
    return dataclasses.replace(made, bucket=bucket, objects=(*made.objects, itself), zip_name=name)


def _zipped(agent: AgentZip, files: tuple[tuple[str, bytes], ...] | list[tuple[str, bytes]]) -> Iterator[bytes]:
    """The whole zip in chunks: the shared part, and the function's files behind it."""
    with tempfile.TemporaryFile() as whole:
        with agent.path.open("rb") as shared:
            shutil.copyfileobj(shared, whole, oci.CHUNK)
        with zipfile.ZipFile(whole, "a") as archive:
            for name, content in files:
                add(archive, name, content, program=name == "function/script")
        whole.seek(0)
        while chunk := whole.read(oci.CHUNK):
            yield chunk


def _measured(agent: AgentZip, files: list[tuple[str, bytes]]) -> tuple[bytes, int]:
    hashed, size = hashlib.sha256(), 0
    for chunk in _zipped(agent, files):
        hashed.update(chunk)
        size += len(chunk)
    return hashed.digest(), size


def _expect_size(unzipped_bytes: int, most: int, function: str) -> None:
    if unzipped_bytes > most:
        whose = "Lambda takes" if most == LAMBDA_UNZIPPED_BYTES else "`deployment.max_s3_payload_size` allows"
        raise UsageError(
            f"the code has {unzipped_bytes} bytes unpacked, {whose} {most}",
            where=function,
            fix="Make the script smaller.",
        )


def _stored(blob: oci.Blob) -> StoredObject:
    return StoredObject(blob.descriptor.digest.removeprefix("sha256:"), blob.descriptor.size, blob.open)


def _public_source(image: oci.Image, *, loopback: bool) -> str | None:
    """The registry's address of the image's repository, when whoever asks is given the layers there; else None."""
    places = {(layer.blob.host, layer.blob.repository) for layer in image.layers}
    host, repository = places.pop() if len(places) == 1 else (None, None)
    if host is None or repository is None:  # a file, a store of this machine, or layers that were compressed here
        return None
    address = "registry-1.docker.io" if host == DOCKER_HUB else host
    name = urlsplit(f"//{address}").hostname or ""
    here = is_loopback(name)
    if not (loopback if here else is_public(name)):
        return None
    try:
        for _ in Registry(host, network=network_here()).blob(repository, image.config.descriptor).open():
            pass
    except (DeniedError, NotFoundError):
        return None
    return f"{'http' if here else 'https'}://{address}/v2/{repository}"


def is_public(host: str) -> bool:
    """Whether all the addresses of a host are the internet's: whoever asks us may not be where Lambda is. Unknown names are not."""
    try:
        found = {str(item[4][0]) for item in socket.getaddrinfo(host, 443, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return False
    return all(ipaddress.ip_address(address.partition("%")[0]).is_global for address in found)


def _payload(fn: Function) -> tuple[tuple[oci.Layer, ...], int]:
    """`extra_payload` as one more layer of the image: the one place that the user's process sees whatever runs it."""
    place = fn.lambda_.extra_payload
    if place is None:
        return (), 0
    root = PAYLOAD_ROOT.lstrip("/")
    entries: list[Entry] = [Directory(root)]
    size = 0
    for path in [place] if place.is_file() else sorted(place.rglob("*")):
        at = f"{root}/{path.name if path == place else path.relative_to(place).as_posix()}"
        if path.is_symlink():
            entries.append(Link(at, str(path.readlink())))
        elif path.is_dir():
            entries.append(Directory(at))
        elif path.is_file():
            size += path.stat().st_size
            if size > LAMBDA_UNZIPPED_BYTES:
                raise UsageError(
                    f"`extra_payload` has more than {LAMBDA_UNZIPPED_BYTES} bytes",
                    where=fn.name,
                    fix="Put the files into the image.",
                )
            entries.append(File(at, _read(path), 0o755 if path.stat().st_mode & 0o111 else 0o644))
        else:
            raise UsageError(
                f"{path} is a device, a pipe or a socket", where=fn.name, fix="Remove it from `extra_payload`."
            )
    return (layer_of(entries),), size


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ScarError(f"it cannot be read: {error.strerror}", where=str(path)) from error
