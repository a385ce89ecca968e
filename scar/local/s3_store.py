"""moto's S3 with bodies in files and every change of a key noted, so that s3_keys can make it durable.

moto keeps deciding what a request means; replaced is only where the bytes of a FakeKey are, how parts are put together, and the
list of all instances ever made, which never shrinks.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, Final

from moto.core.common_models import BaseModel
from moto.s3 import models, responses
from moto.s3.exceptions import EntityTooSmall, InvalidPart, MalformedXML
from moto.s3.models import FakeDeleteMarker, FakeKey, FakeMultipart, S3Backend

from scar.local import checksums
from scar.local.bodies import Bodies, Body
from scar.local.scope import Scope, current


class _NoBuffer:
    """In place of the temporary file moto opens for each key."""

    def close(self) -> None:
        pass


_NO_BUFFER = _NoBuffer()
_TICK: Final = datetime.timedelta(milliseconds=1)  # what moto tells two times apart by


def install(bodies: Bodies, settle: Callable[[Scope], None]) -> None:
    """Hook moto's S3. `settle` makes durable what happens outside of any request."""
    note = _Notes(settle)
    BaseModel.__new__ = staticmethod(_untracked)  # instances_tracked only ever grows
    _install_keys(bodies, note)
    FakeMultipart.complete = functools.partialmethod(_complete, bodies)
    responses.compute_checksum = _compute_checksum
    _install_order()  # below the notes, which write down what it made
    _install_notes(note)
    _install_copy()


def _untracked(cls: type, *_: Any, **__: Any) -> Any:
    return object.__new__(cls)


def _install_keys(bodies: Bodies, note: _Notes) -> None:
    original_init = FakeKey.__init__

    @functools.wraps(original_init)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original_init(self, *args, **kwargs)
        self._value_buffer = _NO_BUFFER

    def value(self: Any) -> Body:
        body: Body = self._body
        return _shared(body)

    def set_value(self: Any, new: Any) -> None:
        self._body = body = _kept(bodies, new)
        self.contentsize = body.size
        if self._etag is None:
            self._etag = body.md5 or _md5(body)

    def dispose(self: Any, garbage: bool = False) -> None:
        if garbage or self.disposed:
            return
        self.disposed = True
        note.discarded(self._body)

    def getstate(self: Any) -> dict[str, Any]:
        state = {name: value for name, value in self.__dict__.items() if name not in ("_value_buffer", "lock")}
        if self.disposed:  # a part of a finished upload: its size is still asked for, its bytes are in the whole
            state["_body"] = None
        return state

    def setstate(self: Any, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _value_buffer=_NO_BUFFER, lock=threading.Lock())

    def marker_state(self: Any) -> dict[str, Any]:
        """A delete marker remembers what it hides only to tell whether that was a marker too."""
        return {**self.__dict__, "key": _bare_marker() if type(self.key) is FakeDeleteMarker else None}

    FakeKey.__init__ = init
    FakeKey.value = property(value, set_value)
    FakeKey.dispose = dispose
    FakeKey.__del__ = lambda self: None
    FakeKey.__getstate__ = getstate
    FakeKey.__setstate__ = setstate
    FakeDeleteMarker.__getstate__ = marker_state


def _bare_marker() -> Any:
    marker = FakeDeleteMarker.__new__(FakeDeleteMarker)
    marker.key = None
    return marker


def _shared(body: Body) -> Body:
    return Body(body.path, body.size, body.md5, body.offset, shared=True, checksums=body.checksums)


def _kept(bodies: Bodies, new: Any) -> Body:
    if isinstance(new, Body):
        scope = current()
        if scope is not None and scope.arrived is new:
            scope.arrived = None
        return bodies.copy(new) if new.shared else new
    return bodies.store([new.encode() if isinstance(new, str) else bytes(new)])


def _md5(body: Iterable[bytes]) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    for chunk in body:
        digest.update(chunk)
    return digest.hexdigest()


def _compute_checksum(body: Any, algorithm: str, encode_base64: bool = True) -> bytes:
    """moto's, but in pieces, and without its silent change of CRC32C and CRC64NVME into CRC32."""
    chunks = body if isinstance(body, Body) else (bytes(body),)
    if encode_base64:
        return checksums.encoded(chunks, algorithm).encode()
    digest = checksums.digest_for(algorithm)
    for chunk in chunks:
        digest.update(chunk)
    return digest.digest()


def _complete(
    self: Any, bodies: Bodies, named: Iterable[tuple[int, str]]
) -> tuple[Body, str, tuple[str, str, int] | None]:
    """Put the named parts together in one new file: what moto does, without the parts in memory."""
    parts: list[Any] = []
    for number, etag in named:
        part = self.parts.get(number)
        if part is None or part.etag.strip('"') != etag.strip('"'):
            raise InvalidPart
        if parts and parts[-1].contentsize < models.S3_UPLOAD_PART_MIN_SIZE:
            raise EntityTooSmall
        parts.append(part)
    if not parts:
        raise MalformedXML
    hashes = b"".join(bytes.fromhex(part.etag.strip('"')) for part in parts)
    etag = f"{hashlib.md5(hashes, usedforsecurity=False).hexdigest()}-{len(parts)}"
    body = bodies.store(chain.from_iterable(part.value for part in parts))
    return body, etag, _multipart_checksum(self.metadata, parts, body)


def _multipart_checksum(metadata: Any, parts: list[Any], body: Body) -> tuple[str, str, int] | None:
    """(type, value, parts) of the whole; None when the upload asked for none (API/API_CompleteMultipartUpload)."""
    algorithm = metadata.get("x-amz-checksum-algorithm")
    if not algorithm:
        return None
    composite = metadata.get("x-amz-checksum-type", "FULL_OBJECT" if algorithm == "CRC64NVME" else "COMPOSITE")
    if composite != "COMPOSITE":
        return composite, checksums.encoded(body, algorithm), 1
    joined = b"".join(_compute_checksum(part.value, algorithm, encode_base64=False) for part in parts)
    return composite, checksums.encoded([joined], algorithm), len(parts)


class _Notes:
    """Tells the current request, or when there is none the disk at once, what has changed."""

    def __init__(self, settle: Callable[[Scope], None]) -> None:
        self._settle = settle

    def touched(self, bucket: str, key: str, version: Any) -> None:
        scope = current()
        if scope is not None:
            scope.touched.append((bucket, key, version))
        else:
            alone = Scope(request_id=os.urandom(8).hex().upper())
            alone.touched.append((bucket, key, version))
            self._settle(alone)

    def discarded(self, body: Body) -> None:
        scope = current()
        if scope is not None:
            scope.discarded.append(body)


def _install_notes(note: _Notes) -> None:
    """Wrap each method of S3Backend that changes a key."""

    def by_result(_: Any, args: tuple[Any, ...], result: Any) -> Iterator[Any]:
        yield result.bucket_name, result.name, result

    def by_argument(_: Any, args: tuple[Any, ...], __: Any) -> Iterator[Any]:
        yield args[0].bucket_name, args[0].name, args[0]

    def by_name(backend: Any, args: tuple[Any, ...], _: Any) -> Iterator[Any]:
        bucket, key, *rest = args
        version_id = rest[0] if rest and isinstance(rest[0], str) else None
        yield bucket, key, backend.get_object(bucket, key, version_id)

    def by_latest(backend: Any, args: tuple[Any, ...], _: Any) -> Iterator[Any]:
        yield args[0], args[1], backend.get_object(args[0], args[1])

    def by_name_alone(_: Any, args: tuple[Any, ...], __: Any) -> Iterator[Any]:
        yield args[0], args[1], None

    for name, which in (
        ("put_object", by_result),
        ("put_object_tagging", by_argument),
        ("delete_object", by_name_alone),
        ("put_object_acl", by_latest),
        ("delete_object_tagging", by_name),
        ("put_object_legal_hold", by_name),
        ("put_object_retention", by_name),
        ("restore_object", by_latest),
    ):
        _wrap(name, which, note)


def _wrap(name: str, which: Callable[[Any, tuple[Any, ...], Any], Iterator[Any]], note: _Notes) -> None:
    original = getattr(S3Backend, name)
    parameters = tuple(original.__code__.co_varnames[1 : original.__code__.co_argcount])

    @functools.wraps(original)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        given = dict(zip(parameters, args, strict=False)) | kwargs
        for bucket, key, version in which(self, tuple(given.get(p) for p in parameters[:3]), result):
            note.touched(bucket, key, version)
        return result

    setattr(S3Backend, name, wrapper)


def _install_order() -> None:
    """moto lists versions by their times: none may be as old as the one it replaces, whatever the clock did meanwhile."""
    for name in ("put_object", "delete_object"):
        original = getattr(S3Backend, name)

        @functools.wraps(original)
        def ordered(
            self: Any, bucket_name: str, key_name: str, *args: Any, _original: Any = original, **kwargs: Any
        ) -> Any:
            result = _original(self, bucket_name, key_name, *args, **kwargs)
            bucket = self.buckets.get(bucket_name)
            if bucket is not None and bucket.is_versioned and len(versions := bucket.keys.getlist(key_name, [])) > 1:
                before, newest = versions[-2:]
                newest.last_modified = max(newest.last_modified, before.last_modified + _TICK)
            return result

        setattr(S3Backend, name, ordered)


def _install_copy() -> None:
    """A copy is one piece, so a checksum of checksums (a multipart source's) cannot be its own: S3 computes it anew."""
    original = S3Backend.copy_object

    @functools.wraps(original)
    def copy_object(
        self: Any, src_key: Any, dest_bucket_name: str, dest_key_name: str, *args: Any, **kwargs: Any
    ) -> None:
        original(self, src_key, dest_bucket_name, dest_key_name, *args, **kwargs)
        made = self.get_object(dest_bucket_name, dest_key_name)
        if src_key.checksum_value and src_key.checksum_type == "COMPOSITE":
            made.checksum_value = checksums.encoded(made.value, made.checksum_algorithm)
            made.checksum_type = "FULL_OBJECT"

    S3Backend.copy_object = copy_object
