"""Where do the images of the local ECR lie? An OCI distribution registry on loopback, in front of moto's control plane.

    blobs/sha256/<hex>      configs, layers and manifests, each verified and on disk before anybody hears of it
    repositories/<account>/<region>/<name>.json     which digests and tags a repository holds: the truth after a crash
    settings.json           account settings and pull-through cache rules, by account and region
    uploads/<uuid>          parts of blobs still arriving; thrown away at the next start

A blob lies here once, but a repository holds only what was pushed to it or mounted into it, as in ECR. moto's ECR is what the API shows
and is kept equal: a push makes the image known there, a deletion there removes it here. The HTTP side (`/v2/…`) is in `registry_http`,
the calls of ECR's API that touch images in `registry_control`.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote, unquote

from moto.core.exceptions import ServiceException
from moto.ecr.exceptions import ImageAlreadyExistsException, InvalidParameterException
from moto.ecr.models import ECRBackend, Repository, ecr_backends
from moto.ecr.models import Image as MotoImage

from scar.local import snapshot
from scar.local.blobs import DIGEST, BlobStore
from scar.local.registry_lifecycle import expired
from scar.local.registry_manifest import OCI_MANIFEST, ManifestError, json_object, parts, references, refers_to
from scar.local.registry_settings import BLOB_MOUNTING, ENABLED, WRITTEN_BY, Settings
from scar.local.state import make_folder

MANIFEST_BYTES: Final = 4 * 1024 * 1024
_ECR_HOST: Final = re.compile(r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?")
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


class Place(NamedTuple):
    """A repository, wherever ECR has it."""

    account: str
    region: str
    name: str


class StoredImage(NamedTuple):
    """An image that can be run: its configuration document, its compressed layers, lowest first, and their bytes together."""

    digest: str
    config: Mapping[str, Any]
    layers: tuple[Path, ...]
    size: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One manifest of a repository."""

    digest: str
    media_type: str
    tags: tuple[str, ...]
    pushed_at: int


class LayersNotFoundException(ServiceException):  # type: ignore[misc]  # moto has no types
    """PutImage of a manifest whose blobs were never uploaded."""

    code = "LayersNotFoundException"


class ImageDigestDoesNotMatchException(ServiceException):  # type: ignore[misc]  # moto has no types
    """PutImage of a manifest under another digest than its own."""

    code = "ImageDigestDoesNotMatchException"


class ImageTagAlreadyExistsException(ServiceException):  # type: ignore[misc]  # moto has no types
    """A push that would move a tag of a repository where tags do not move."""

    code = "ImageTagAlreadyExistsException"

    def __init__(self, tag: str, place: Place) -> None:
        super().__init__(
            f"The image tag '{tag}' already exists in the '{place.name}' repository and cannot be overwritten "
            "because the repository is immutable."
        )


class RegistryData:
    """Images of every account and region. `repository` is a name, or a name behind its ECR host (`<account>.dkr.ecr.…/name`).

    `pinned` names manifests that must stay although no repository holds them any more (functions run on).
    """

    def __init__(self, folder: Path, *, endpoint: Callable[[], str] = lambda: "") -> None:
        self.endpoint = endpoint
        self.pinned: Callable[[], Iterable[str]] = tuple
        self.blobs = BlobStore(folder)
        self._folder = folder / "repositories"
        make_folder(self._folder)
        self._lock = threading.RLock()
        self._entries: dict[Place, dict[str, Entry]] = dict(self._load())
        self._arrived: dict[Place, set[str]] = {}  # blobs that no manifest of the repository refers to yet
        self._blobs_of: dict[str, frozenset[str]] = {}  # a manifest's digest → what it refers to: never changes
        self.secret = secrets.token_bytes(32)  # of download URLs: they end with the process
        self.settings = Settings(folder / "settings.json")

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """The data plane as a WSGI application."""
        from scar.local.registry_http import answer

        return answer(self, environ, start_response)

    def key_of(self, environ: Mapping[str, Any]) -> tuple[str, str] | None:
        """Whose token a request comes with (an access key, and the region that it is for), when it is one of ours."""
        from scar.local.registry_http import key_of

        return key_of(self, environ.get("HTTP_AUTHORIZATION", ""))

    # What others ask.

    def has(self, repository: str, reference: str) -> bool:
        """Whether a repository holds this tag or digest, with everything it refers to."""
        try:
            self.image(repository, reference)
        except LookupError:
            return False
        return True

    def image(self, repository: str, reference: str) -> StoredImage:
        """Raises LookupError when there is no such image, it is an index, or a blob of it is missing."""
        place = self.locate(repository)
        entry = self.entry(place, reference) if place is not None else None
        if entry is None:
            raise LookupError(f"{repository} holds no {reference}")
        return self.stored(entry.digest)

    def stored(self, digest: str) -> StoredImage:
        """The image by its digest alone, also when its repository has let it go while a function still uses it."""
        text = self.blobs.read(digest)
        if text is None:
            raise LookupError(f"the manifest {digest} is not here")
        manifest = json.loads(text)
        if "config" not in manifest:
            raise LookupError(f"{digest} is an index of images, not an image")
        config = self.blobs.read(manifest["config"]["digest"])
        layers = [path for layer in manifest["layers"] if (path := self.blobs.find(layer["digest"])) is not None]
        if config is None or len(layers) < len(manifest["layers"]):
            raise LookupError(f"parts of {digest} are missing")
        try:
            document = json.loads(config)
        except ValueError as error:
            raise LookupError(f"the configuration of {digest} is not JSON") from error
        return StoredImage(digest, document, tuple(layers), sum(path.stat().st_size for path in layers))

    def locate(self, repository: str, account: str | None = None, region: str | None = None) -> Place | None:
        """The repository in moto's ECR; a bare name without account or region is searched in all."""
        host, _, name = repository.partition("/")
        if found := _ECR_HOST.fullmatch(host):
            account, region, repository = found["account"], found["region"], name
        for backend in list(_backends()):
            here = (account in (None, backend.account_id)) and (region in (None, backend.region_name))
            if here and repository in backend.repositories:
                return Place(backend.account_id, backend.region_name, repository)
        return None

    def entry(self, place: Place, reference: str) -> Entry | None:
        with self._lock:
            entries = self._entries.get(place, {})
            if DIGEST.fullmatch(reference):
                return entries.get(reference)
            return next((entry for entry in entries.values() if reference in entry.tags), None)

    def tags(self, place: Place) -> tuple[str, ...]:
        with self._lock:
            return tuple(sorted(tag for entry in self._entries.get(place, {}).values() for tag in entry.tags))

    def blob(self, place: Place, digest: str) -> Path | None:
        """A blob or a manifest that this repository holds."""
        path = self.blobs.find(digest)
        if path is None:
            return None
        with self._lock:
            entries = self._entries.get(place, {})
            held = digest in entries or digest in self._arrived.get(place, ())
            return path if held or any(digest in self._refers(known) for known in entries) else None

    def promised(self, place: Place, digest: str) -> int | None:
        """The size of a blob that a manifest of this repository refers to, whether it is here or not."""
        with self._lock:
            for manifest in self._entries.get(place, {}):
                if digest in self._refers(manifest):
                    document = json.loads(self.blobs.read(manifest) or b"{}")
                    return next(int(part["size"]) for part in parts(document) if part["digest"] == digest)
        return None

    def may_mount(self, place: Place, source: str, digest: str) -> bool:
        """Whether ECR links a blob of another repository: a setting asks for it, both are encrypted alike, and it is no cached image.

        Source: docs.aws.amazon.com/AmazonECR/latest/userguide/blob-mounting.html
        """
        other = place._replace(name=source)
        wanted = self.settings.value(place.account, place.region, BLOB_MOUNTING) == ENABLED
        cached = self.settings.rule_of(place.account, place.region, source) is not None
        if not wanted or cached or self.blob(other, digest) is None:
            return False
        here, there = _repository(place), _repository(other)
        return bool(here.encryption_configuration == there.encryption_configuration)

    # What changes it.

    def arrived(self, place: Place, digest: str) -> None:
        """A blob was pushed to this repository, or mounted into it."""
        with self._lock:
            self._arrived.setdefault(place, set()).add(digest)

    def push(self, place: Place, content: bytes, media_type: str, reference: str | None, *, whole: bool = True) -> str:
        """Take a manifest; its digest. What it refers to must be here, unless it is not `whole` yet (a cached image). Durable when this returns. Raises ManifestError or ImageTagAlreadyExistsException."""
        needed = references(content, media_type)
        missing = [digest for digest in needed if self.blob(place, digest) is None]
        if missing and whole:
            raise ManifestError("MANIFEST_BLOB_UNKNOWN", f"not in this repository: {', '.join(missing)}")
        by_digest = reference is not None and DIGEST.fullmatch(reference) is not None
        tag = None if by_digest else reference
        if tag is not None and not _TAG.fullmatch(tag):
            raise ManifestError("MANIFEST_INVALID", f"{tag!r} is not a tag")
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        if by_digest and reference != digest:
            raise ManifestError("DIGEST_INVALID", f"the manifest hashes to {digest}, not {reference}")
        self.blobs.put(content)
        with self._lock:
            self._record(place, digest, content, media_type, tag)
        self.blobs.settle([digest, *needed])
        self._expire(place)
        return digest

    def put_image(
        self, place: Place, manifest: str, tag: str | None, media_type: str | None, digest: str | None
    ) -> Any:
        """ecr:PutImage, the control plane's way to push or to tag."""
        content = manifest.encode()
        actual = f"sha256:{hashlib.sha256(content).hexdigest()}"
        if digest not in (None, actual):
            raise ImageDigestDoesNotMatchException(f"The manifest hashes to {actual}, not {digest}.")
        with self._lock:
            known = self.entry(place, tag) if tag is not None else None
            try:
                kind = media_type or json_object(content).get("mediaType") or OCI_MANIFEST
                pushed = self.push(place, content, kind, tag or digest)
            except ManifestError as error:
                refusal = (
                    LayersNotFoundException if error.code == "MANIFEST_BLOB_UNKNOWN" else InvalidParameterException
                )
                raise refusal(str(error)) from error
            if known is not None and known.digest == pushed:
                raise ImageAlreadyExistsException(place.account, tag, pushed, place.name)
            return _moto_image(_repository(place), pushed)

    def mirror(self, place: Place) -> None:
        """Follow what was deleted in moto's ECR, and remove what nothing refers to any more."""
        with self._lock:
            repository = ecr_backends[place.account][place.region].repositories.get(place.name)
            entries = self._entries.get(place, {})
            if repository is None:
                self._entries.pop(place, None)
                self._arrived.pop(place, None)
                self._file(place).unlink(missing_ok=True)
            else:
                left = {image.get_image_digest(): tuple(image.image_tags) for image in repository.images}
                self._write(place, {d: replace(e, tags=left[d]) for d, e in entries.items() if d in left})
            self.collect()

    def restore(self) -> None:
        """Make moto's ECR show what lies here: called when the daemon has loaded its snapshot, which may be older or newer."""
        with self._lock:
            for place, entries in self._entries.items():
                backend = ecr_backends[place.account][place.region]
                if place.name not in backend.repositories:
                    backend.create_repository(place.name, None, None, None, "MUTABLE", [])
                repository = backend.repositories[place.name]
                repository.images = [self._image(place, entry) for entry in entries.values()]
            for backend in list(_backends()):
                for name, repository in backend.repositories.items():
                    if Place(backend.account_id, backend.region_name, name) not in self._entries:
                        repository.images = []
            self.collect()

    def collect(self) -> int:
        """Remove blobs that no manifest of a repository and no function refers to; how many went."""
        with self._lock:
            keep: set[str] = set()
            waiting = [digest for entries in self._entries.values() for digest in entries]
            waiting.extend(self.pinned())
            while waiting:
                digest = waiting.pop()
                content = self.blobs.read(digest) if digest not in keep else None
                keep.add(digest)
                if content is not None:
                    document = json.loads(content)
                    waiting.extend(child["digest"] for child in document.get("manifests", ()))
                    keep.update(part["digest"] for part in parts(document))
            return self.blobs.collect(keep)

    # Inside.

    def _record(self, place: Place, digest: str, content: bytes, media_type: str, tag: str | None) -> None:
        """Disk first, then moto: what the API shows is never more than what a crash leaves."""
        backend, repository = ecr_backends[place.account][place.region], _repository(place)
        entries = dict(self._entries.get(place, {}))
        holder = next((entry for entry in entries.values() if tag is not None and tag in entry.tags), None)
        if holder is not None and holder.digest != digest:
            try:
                backend._resolve_image_tag_mutability(repository, tag)
            except ImageAlreadyExistsException as error:  # moto's word for it; ECR's is another
                raise ImageTagAlreadyExistsException(str(tag), place) from error
            entries[holder.digest] = replace(holder, tags=tuple(t for t in holder.tags if t != tag))
        fresh = MotoImage(place.account, tag, content.decode(), place.name, media_type, digest)
        entry = entries.get(digest) or Entry(digest, media_type, (), fresh.image_pushed_at)
        if tag is not None and tag not in entry.tags:
            entry = replace(entry, tags=(*entry.tags, tag))
        entries[digest] = entry
        self._write(place, entries)
        for known in entries.values():
            image = _moto_image(repository, known.digest)
            if image is None:
                repository.images.append(fresh)
                image = fresh
            _set_tags(image, known.tags)

    def _refers(self, manifest: str) -> frozenset[str]:
        if manifest not in self._blobs_of:
            self._blobs_of[manifest] = refers_to(self.blobs.read(manifest) or b"{}")
        return self._blobs_of[manifest]

    def _expire(self, place: Place) -> None:
        """What ECR does within a day of a push is done at once: images that the lifecycle policy does not keep are removed."""
        repository = _repository(place)
        with self._lock:
            gone = expired(repository.lifecycle_policy, list(self._entries.get(place, {}).values()), now=time.time())
            if gone:
                repository.images = [image for image in repository.images if image.get_image_digest() not in gone]
                self.mirror(place)

    def _image(self, place: Place, entry: Entry) -> Any:
        content = self.blobs.read(entry.digest) or b"{}"
        image = MotoImage(place.account, None, content.decode(), place.name, entry.media_type, entry.digest)
        image.image_pushed_at = entry.pushed_at
        _set_tags(image, entry.tags)
        return image

    def _write(self, place: Place, entries: dict[str, Entry]) -> None:
        file = self._file(place)
        make_folder(file.parent)
        document = {"images": [asdict(entry) for entry in entries.values()]}
        snapshot.write_document(file, document, written_by=WRITTEN_BY)
        self._entries[place] = entries

    def _load(self) -> Iterator[tuple[Place, dict[str, Entry]]]:
        for file in self._folder.glob("*/*/*.json"):
            document = snapshot.read_document(file, written_by=WRITTEN_BY)
            images = [
                Entry(raw["digest"], raw["media_type"], tuple(raw["tags"]), raw["pushed_at"])
                for raw in document["images"]
            ]
            place = Place(file.parent.parent.name, file.parent.name, unquote(file.stem))
            yield place, {entry.digest: entry for entry in images}

    def _file(self, place: Place) -> Path:
        return self._folder / place.account / place.region / f"{quote(place.name, safe='')}.json"


def image_size(image: Any) -> int | None:
    """What ECR shows as an image's size: all compressed layers."""
    layers: Sequence[Mapping[str, Any]] = json.loads(image.image_manifest).get("layers", ())
    return sum(int(layer.get("size", 0)) for layer in layers) if layers else None


def _backends() -> Iterator[ECRBackend]:
    yield from [backend for _, _, backend in ecr_backends.iter_backends()]


def _repository(place: Place) -> Repository:
    return ecr_backends[place.account][place.region]._get_repository(place.name)  # moto has no public reader


def _moto_image(repository: Repository, digest: str) -> Any:
    return next((image for image in repository.images if image.get_image_digest() == digest), None)


def _set_tags(image: Any, tags: Sequence[str]) -> None:
    image.image_tags = list(tags)
    image.image_tag = tags[-1] if tags else None
