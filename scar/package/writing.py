"""An image as a file or a folder that other tools read: an OCI archive, an OCI layout, or what `docker load` takes.

Blobs are streamed and verified on their way. What is written appears whole or not at all, and is the same bytes each time.
"""

from __future__ import annotations

import fcntl
import glob
import json
import os
import secrets
import shutil
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Literal

from scar.errors import ConflictError, NotFoundError, ScarError, UsageError
from scar.package import oci
from scar.package.derive import read_config
from scar.package.layer import memory_blob
from scar.package.progress import Tell, ignore

Form = Literal["oci-archive", "oci", "docker-archive"]

_FORMS: Final[Mapping[str, Form]] = {"docker-archive": "docker-archive", "oci-archive": "oci-archive", "oci": "oci"}
_PART: Final = ".part"
_BLOCK: Final = tarfile.BLOCKSIZE
_PLATFORM: Final = ("architecture", "os", "variant")
_LAYOUT: Final = b'{"imageLayoutVersion":"1.0.0"}'
_NAME_ANNOTATION: Final = "org.opencontainers.image.ref.name"  # OCI image-spec 1.1, annotations
_CONTAINERD_ANNOTATION: Final = "io.containerd.image.name"  # what `docker load` with containerd's store goes by


@dataclass(frozen=True, slots=True)
class Target:
    """Where to, and in which form."""

    form: Form
    path: Path

    def __str__(self) -> str:
        return f"{self.form}:{self.path}"


def parse_target(text: str) -> Target:
    """`FILE.tar`, `DIR/`, or a form by name: `docker-archive:FILE`, `oci-archive:FILE`, `oci:DIR`. Raises UsageError."""
    word, colon, rest = text.partition(":")
    if colon and word in _FORMS and rest:
        return Target(_FORMS[word], Path(rest))
    if text.endswith("/") or Path(text).is_dir():
        return Target("oci", Path(text))
    if text.endswith(".tar"):
        return Target("oci-archive", Path(text))
    raise UsageError(
        f"{text!r} names no form that an image can be written in",
        fix="Write FILE.tar (an OCI archive), DIR/ (an OCI layout) or docker-archive:FILE.",
    )


def write_image(image: oci.Image, target: Target, *, name: str, tell: Tell = ignore) -> None:
    """Write the image, called `name` (`repository:tag`) for tools that give images names.

    Raises ConflictError for a folder that holds something else, NotFoundError where there is no folder to write to.
    """
    try:
        match target.form:
            case "oci":
                _write_layout(image, target.path, name, tell)
            case "oci-archive":
                with _appearing(target.path) as out:
                    _write_tar(out, _layout_files(image, name), _content(image, tell))
            case "docker-archive":
                # Also an OCI layout, as Docker itself writes since release 25: each release reads the part that it knows.
                with _appearing(target.path) as out:
                    files = {**_layout_files(image, name), "manifest.json": _saved_manifest(image, name)}
                    _write_tar(out, files, _content(image, tell))
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not target.path.absolute().parent.is_dir():
            raise NotFoundError(
                "there is no such folder", where=str(target.path.parent), fix="Make it, or name another."
            ) from error
        raise ScarError(f"the image cannot be written: {error.strerror or error}", where=str(target.path)) from error


# -- what goes where --------------------------------------------------------------------------------------------


def _content(image: oci.Image, tell: Tell) -> Mapping[str, oci.Blob]:
    """Every blob once, by the name of its file: the manifest, the configuration, the layers."""
    blobs = [memory_blob(image.manifest, image.media_type), image.config, *(layer.blob for layer in image.layers)]
    total = sum(blob.descriptor.size for blob in {blob.descriptor.digest: blob for blob in blobs}.values())
    done = [0]

    def counted(blob: oci.Blob) -> oci.Blob:
        def chunks() -> Iterator[bytes]:
            for chunk in blob.open():
                done[0] += len(chunk)
                tell(done[0], total, "write")
                yield chunk

        return oci.Blob(blob.descriptor, chunks)

    return {_blob_name(blob.descriptor.digest): counted(blob) for blob in blobs}


def _layout_files(image: oci.Image, name: str) -> dict[str, bytes]:
    return {"oci-layout": _LAYOUT, "index.json": _index(image, name)}


def _index(image: oci.Image, name: str) -> bytes:
    entry = {
        "mediaType": image.media_type,
        "digest": image.digest,
        "size": len(image.manifest),
        "platform": {key: value for key, value in read_config(image).items() if key in _PLATFORM},
        "annotations": {_NAME_ANNOTATION: name, _CONTAINERD_ANNOTATION: f"docker.io/{name}"},
    }
    return _json({"schemaVersion": 2, "mediaType": oci.OCI_INDEX, "manifests": [entry]})


def _saved_manifest(image: oci.Image, name: str) -> bytes:
    entry = {
        "Config": _blob_name(image.config.descriptor.digest),
        "RepoTags": [name],
        "Layers": [_blob_name(layer.blob.descriptor.digest) for layer in image.layers],
    }
    return _json([entry])


def _blob_name(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _json(document: object) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


# -- tar --------------------------------------------------------------------------------------------------------


def _write_tar(out: IO[bytes], files: Mapping[str, bytes], blobs: Mapping[str, oci.Blob]) -> None:
    for name, content in files.items():
        _member(out, name, len(content), (content,))
    for folder in ("blobs", "blobs/sha256"):  # tools that unpack as an ordinary user do not make them themselves
        entry = tarfile.TarInfo(folder)
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755
        out.write(entry.tobuf(tarfile.PAX_FORMAT))
    for name, blob in blobs.items():
        _member(out, name, blob.descriptor.size, blob.open())
    out.write(bytes(2 * _BLOCK))


def _member(out: IO[bytes], name: str, size: int, chunks: Iterable[bytes]) -> None:
    """Written by hand: tarfile stops reading at the announced size, before a blob can say that its digest is another."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    out.write(member.tobuf(tarfile.PAX_FORMAT))
    for chunk in chunks:
        out.write(chunk)
    out.write(bytes(-size % _BLOCK))


# -- a folder ---------------------------------------------------------------------------------------------------


def _write_layout(image: oci.Image, folder: Path, name: str, tell: Tell) -> None:
    blobs = _content(image, tell)
    if folder.exists() and any(folder.iterdir()):
        _check_ours(folder, name)
        _fill(folder, blobs, _layout_files(image, name))
        _remove_others(folder, blobs)
        return
    folder = folder.absolute()
    making = _part(folder)
    making.mkdir()
    with _held(making):
        try:
            _fill(making, blobs, _layout_files(image, name))
            making.replace(folder)
        except BaseException:
            shutil.rmtree(making, ignore_errors=True)
            raise


def _fill(folder: Path, blobs: Mapping[str, oci.Blob], files: Mapping[str, bytes]) -> None:
    """The blobs first: whoever reads `index.json` finds all that it names."""
    (folder / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
    for name, blob in blobs.items():
        with _appearing(folder / name) as out:
            for chunk in blob.open():
                out.write(chunk)
    for name, content in files.items():
        with _appearing(folder / name) as out:
            out.write(content)


def _check_ours(folder: Path, name: str) -> None:
    """A folder that is written anew must hold this image, in whatever state, and nothing else."""
    try:
        entries = json.loads((folder / "index.json").read_bytes())["manifests"]
        names = [_annotated_name(entry) for entry in entries]
    except (OSError, ValueError, LookupError, TypeError):
        names = []
    if names != [name]:
        raise ConflictError(
            "the folder is not empty, and holds something else than this image",
            where=str(folder),
            fix="Name another folder.",
        )


def _annotated_name(entry: Mapping[str, Any]) -> object:
    annotations = entry["annotations"]
    return annotations[_NAME_ANNOTATION]


def _remove_others(folder: Path, blobs: Mapping[str, oci.Blob]) -> None:
    kept = {folder / name for name in blobs}
    for path in (folder / "blobs" / "sha256").iterdir():
        if path not in kept:
            path.unlink(missing_ok=True)


@contextmanager
def _appearing(path: Path) -> Iterator[IO[bytes]]:
    """A file that appears under its name when the block ends well; its mode is what the user's umask makes it."""
    part = _part(path)
    part.touch(0o666, exist_ok=False)
    with _held(part):
        try:
            with part.open("wb") as out:
                yield out
                out.flush()
                os.fsync(out.fileno())
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def _part(path: Path) -> Path:
    """Where to write what will be called `path`. What killed processes left of it is removed: nobody holds it."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*{_PART}"):
        with suppress(OSError), _held(left) as is_ours:
            if is_ours:
                shutil.rmtree(left) if left.is_dir() else left.unlink()
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}{_PART}")


@contextmanager
def _held(path: Path) -> Iterator[bool]:
    """A file or folder while it is written; False when another process has it, or its file system knows no locks."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            locked = True
        except OSError:
            locked = False
        yield locked
    finally:
        os.close(descriptor)
