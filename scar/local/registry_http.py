"""How do clients speak to the local registry? The OCI distribution API (v2), for what `docker push` and SCAR's own pusher use."""

from __future__ import annotations

import base64
import binascii
import errno
import hmac
import json
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlencode

from scar.local.blobs import CHUNK, DIGEST, DigestMismatchError, Upload, read_range
from scar.local.registry import MANIFEST_BYTES, ImageTagAlreadyExistsException, Place
from scar.local.registry_manifest import ManifestError
from scar.local.registry_upstream import fetch_blob, fetch_manifest

if TYPE_CHECKING:
    from scar.local.registry import RegistryData

_NAME: Final = r"(?P<name>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)"
_BLOB: Final = re.compile(rf"/v2/{_NAME}/blobs/(?P<digest>[^/]+)")
_UPLOADS: Final = re.compile(rf"/v2/{_NAME}/blobs/uploads/?")
_UPLOAD: Final = re.compile(rf"/v2/{_NAME}/blobs/uploads/(?P<id>[0-9a-f-]{{36}})")
_MANIFEST: Final = re.compile(rf"/v2/{_NAME}/manifests/(?P<reference>[^/]+)")
_TAGS: Final = re.compile(rf"/v2/{_NAME}/tags/list")
_RANGE: Final = re.compile(r"bytes=(\d+)-(\d*)")
_PASSWORD: Final = re.compile(
    r"(?P<account>\d{12})(?:\.(?P<region>[a-z0-9-]+))?-auth-token(?:\.(?P<key>\w+)\.(?P<mark>[0-9a-f]{64}))?"
)
_READS: Final = ("GET", "HEAD")
_DOWNLOAD_S: Final = 3600
_STATUS: Final = {
    200: "OK", 201: "Created", 202: "Accepted", 204: "No Content", 206: "Partial Content", 400: "Bad Request",
    401: "Unauthorized", 404: "Not Found", 405: "Method Not Allowed", 413: "Request Entity Too Large",
    416: "Range Not Satisfiable", 507: "Insufficient Storage",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Iterator[bytes] = b""


class RefusalError(Exception):
    """An answer in the specification's error shape."""

    def __init__(self, status: int, code: str, what: str, **headers: str) -> None:
        super().__init__(what)
        self.status, self.code, self.headers = status, code, headers


@dataclass(frozen=True, slots=True)
class Request:
    """What a handler needs of one request."""

    method: str
    path: str
    query: Mapping[str, str]
    environ: Mapping[str, Any]
    account: str
    region: str | None

    @property
    def reads(self) -> bool:
        return self.method in _READS

    def chunks(self) -> Iterator[bytes]:
        """The body, never whole in memory. Raises RefusalError when the client stopped early."""
        stream, length = self.environ["wsgi.input"], self.environ.get("CONTENT_LENGTH") or ""
        if not length and self.environ.get("wsgi.input_terminated"):
            while part := stream.read(CHUNK):
                yield part
            return
        left = int(length) if length.isdigit() else 0
        while left:
            part = stream.read(min(CHUNK, left))
            if not part:
                raise RefusalError(400, "BLOB_UPLOAD_INVALID", "the body ended early")
            left -= len(part)
            yield part


def password(registry: RegistryData, account: str, region: str, key: str | None) -> str:
    """What ecr:GetAuthorizationToken hands out: it says which ECR the client means, and, sealed, whose access key it was given to."""
    plain = f"{account}.{region}-auth-token"
    return plain if key is None else f"{plain}.{key}.{_signature(registry.secret, plain, key)}"


def key_of(registry: RegistryData, header: str) -> tuple[str, str] | None:
    """Whose token an Authorization header holds: an access key and the token's region. None where there is none, or one that we did not seal."""
    try:
        encoded = header.partition(" ")[2].strip()
        found = _PASSWORD.fullmatch(base64.b64decode(encoded, validate=True).decode().partition(":")[2])
    except (binascii.Error, UnicodeDecodeError):
        return None
    if found is None or found["key"] is None:
        return None
    plain = found[0].partition("-auth-token")[0] + "-auth-token"
    sealed = hmac.compare_digest(_signature(registry.secret, plain, found["key"]), found["mark"])
    return (found["key"], found["region"] or "us-east-1") if sealed else None


def answer(registry: RegistryData, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """One request, to the end."""
    try:
        response = _route(registry, _request(registry, environ))
    except RefusalError as error:
        response = _error(error)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        response = _error(RefusalError(507, "UNKNOWN", "no space left on the disk of the local registry"))
    body = response.body
    headers = {"Docker-Distribution-Api-Version": "registry/2.0", **response.headers}
    if isinstance(body, bytes):
        headers.setdefault("Content-Length", str(len(body)))
    start_response(f"{response.status} {_STATUS[response.status]}", list(headers.items()))
    if environ["REQUEST_METHOD"] == "HEAD":
        return []
    return [body] if isinstance(body, bytes) else body


def signed_url(registry: RegistryData, place: Place, digest: str, *, now: float) -> str:
    """Where anybody may read this blob for an hour: ecr:GetDownloadUrlForLayer."""
    path, until = f"/v2/{place.name}/blobs/{digest}", int(now + _DOWNLOAD_S)
    signature = _signature(registry.secret, path, place.account, place.region, str(until))
    query = {"account": place.account, "region": place.region, "until": until, "signature": signature}
    return f"{registry.endpoint()}{path}?{urlencode(query)}"


def _signature(secret: bytes, *words: str) -> str:
    return hmac.new(secret, "\n".join(words).encode(), "sha256").hexdigest()


def _signed(registry: RegistryData, path: str, query: Mapping[str, str]) -> tuple[str, str] | None:
    """Whose blob a download URL is for, when it is one of ours and still holds."""
    account, region, until = query.get("account", ""), query.get("region", ""), query.get("until", "")
    expected = _signature(registry.secret, path, account, region, until)
    if not hmac.compare_digest(query.get("signature", "").encode(), expected.encode()) or int(until) < time.time():
        return None
    return account, region


def _request(registry: RegistryData, environ: Mapping[str, Any]) -> Request:
    query = {name: values[0] for name, values in parse_qs(environ.get("QUERY_STRING", "")).items()}
    signed = (
        _signed(registry, environ.get("PATH_INFO", ""), query)
        if environ["REQUEST_METHOD"] in _READS and "signature" in query
        else None
    )
    account, region = signed or _authenticated(environ.get("HTTP_AUTHORIZATION", ""))
    return Request(environ["REQUEST_METHOD"], environ.get("PATH_INFO", ""), query, environ, account, region)


def _authenticated(header: str) -> tuple[str, str | None]:
    challenge = {"Www-Authenticate": 'Basic realm="local ECR"'}
    kind, _, encoded = header.partition(" ")
    try:
        user, _, secret = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        user, secret = "", ""
    found = _PASSWORD.fullmatch(secret)
    if kind.lower() != "basic" or not hmac.compare_digest(user.encode(), b"AWS") or found is None:
        raise RefusalError(401, "UNAUTHORIZED", "Log in with a token of ecr:GetAuthorizationToken.", **challenge)
    return found["account"], found["region"]


def _error(error: RefusalError) -> Response:
    document = {"errors": [{"code": error.code, "message": str(error)}]}
    return Response(error.status, {"Content-Type": "application/json", **error.headers}, json.dumps(document).encode())


def _route(registry: RegistryData, request: Request) -> Response:
    if request.path.rstrip("/") == "/v2":
        return Response(200, {"Content-Type": "application/json"}, b"{}")
    for pattern, handlers in _ROUTES:
        found = pattern.fullmatch(request.path)
        if found is None:
            continue
        handler = handlers.get(request.method)
        if handler is None:
            raise RefusalError(405, "UNSUPPORTED", f"{request.method} is not supported here")
        parts = found.groupdict()
        name = parts.pop("name")
        place = registry.locate(name, request.account, request.region)
        if place is None and pattern is _MANIFEST and request.reads and request.region:
            cached = Place(request.account, request.region, name)
            place = cached if fetch_manifest(registry, cached, found["reference"]) else None
        if place is None:
            raise RefusalError(404, "NAME_UNKNOWN", f"The repository {found['name']} does not exist in this registry.")
        return handler(registry, request, place, *parts.values())
    raise RefusalError(404, "UNSUPPORTED", "no such path")


def _read_blob(registry: RegistryData, request: Request, place: Place, digest: str) -> Response:
    path = registry.blob(place, digest) or fetch_blob(registry, place, digest)
    if path is None:
        raise RefusalError(404, "BLOB_UNKNOWN", f"{digest} is not in {place.name}")
    size = path.stat().st_size
    headers = {
        "Content-Type": "application/octet-stream",
        "Docker-Content-Digest": digest,
        "Accept-Ranges": "bytes",
        "Etag": f'"{digest}"',
    }
    wanted = _RANGE.fullmatch(request.environ.get("HTTP_RANGE", ""))
    if wanted is None:
        return Response(200, {**headers, "Content-Length": str(size)}, read_range(path, 0, size - 1))
    first, last = int(wanted[1]), min(int(wanted[2] or size - 1), size - 1)
    if first > last:
        raise RefusalError(416, "UNSUPPORTED", "no such range", **{"Content-Range": f"bytes */{size}"})
    headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    headers["Content-Length"] = str(last - first + 1)
    return Response(206, headers, read_range(path, first, last))


def _begin_upload(registry: RegistryData, request: Request, place: Place) -> Response:
    mounted, source = request.query.get("mount"), request.query.get("from")
    if mounted and source and registry.may_mount(place, source, mounted):
        registry.arrived(place, mounted)
        return _blob_created(place, mounted)
    upload = registry.blobs.begin()
    if digest := request.query.get("digest"):
        _receive(registry, request, upload)
        return _finish(registry, upload, place, digest)
    return _upload_state(place, upload, 202)


def _patch_upload(registry: RegistryData, request: Request, place: Place, upload_id: str) -> Response:
    upload = _upload(registry, upload_id)
    with upload.lock:
        start = request.environ.get("HTTP_CONTENT_RANGE", "").removeprefix("bytes ").partition("-")[0]
        if start.isdigit() and int(start) != upload.size:
            raise RefusalError(416, "BLOB_UPLOAD_INVALID", f"{upload.size} bytes are here", Range=_range(upload))
        _receive(registry, request, upload)
        return _upload_state(place, upload, 202)


def _put_upload(registry: RegistryData, request: Request, place: Place, upload_id: str) -> Response:
    upload, digest = _upload(registry, upload_id), request.query.get("digest", "")
    with upload.lock:
        _receive(registry, request, upload)
        return _finish(registry, upload, place, digest)


def _show_upload(registry: RegistryData, _: Request, place: Place, upload_id: str) -> Response:
    return _upload_state(place, _upload(registry, upload_id), 204)


def _cancel_upload(registry: RegistryData, _: Request, __: Place, upload_id: str) -> Response:
    registry.blobs.abandon(_upload(registry, upload_id))
    return Response(204)


def _upload(registry: RegistryData, upload_id: str) -> Upload:
    upload = registry.blobs.upload(upload_id)
    if upload is None:
        raise RefusalError(404, "BLOB_UPLOAD_UNKNOWN", "no such upload; begin again")
    return upload


def _receive(registry: RegistryData, request: Request, upload: Upload) -> None:
    try:
        for part in request.chunks():
            upload.write(part)
    except OSError:
        registry.blobs.abandon(upload)
        raise


def _finish(registry: RegistryData, upload: Upload, place: Place, digest: str) -> Response:
    if not DIGEST.fullmatch(digest):
        registry.blobs.abandon(upload)
        raise RefusalError(400, "DIGEST_INVALID", f"{digest!r} is not a sha256 digest")
    try:
        registry.blobs.finish(upload, digest)
    except DigestMismatchError as error:
        raise RefusalError(400, "DIGEST_INVALID", str(error)) from error
    registry.arrived(place, digest)
    return _blob_created(place, digest)


def _blob_created(place: Place, digest: str) -> Response:
    return Response(201, {"Location": f"/v2/{place.name}/blobs/{digest}", "Docker-Content-Digest": digest})


def _upload_state(place: Place, upload: Upload, status: int) -> Response:
    headers = {
        "Location": f"/v2/{place.name}/blobs/uploads/{upload.id}",
        "Range": _range(upload),
        "Docker-Upload-Uuid": str(uuid.UUID(upload.id)),
    }
    return Response(status, headers)


def _range(upload: Upload) -> str:
    return f"0-{max(0, upload.size - 1)}"


def _read_manifest(registry: RegistryData, _: Request, place: Place, reference: str) -> Response:
    entry = registry.entry(place, reference)
    if entry is None and fetch_manifest(registry, place, reference):
        entry = registry.entry(place, reference)
    content = registry.blobs.read(entry.digest) if entry is not None else None
    if entry is None or content is None:
        raise RefusalError(404, "MANIFEST_UNKNOWN", f"{place.name} holds no {reference}")
    return Response(200, {"Content-Type": entry.media_type, "Docker-Content-Digest": entry.digest}, content)


def _put_manifest(registry: RegistryData, request: Request, place: Place, reference: str) -> Response:
    parts, size = [], 0
    for part in request.chunks():
        size += len(part)
        if size > MANIFEST_BYTES:
            raise RefusalError(413, "MANIFEST_INVALID", f"a manifest has at most {MANIFEST_BYTES} bytes")
        parts.append(part)
    media_type = str(request.environ.get("CONTENT_TYPE", "")).partition(";")[0].strip()
    try:
        digest = registry.push(place, b"".join(parts), media_type, reference)
    except ManifestError as error:
        raise RefusalError(400, error.code, str(error)) from error
    except ImageTagAlreadyExistsException as error:
        raise RefusalError(400, "TAG_INVALID", error.message) from error
    headers = {"Location": f"/v2/{place.name}/manifests/{digest}", "Docker-Content-Digest": digest}
    return Response(201, headers)


def _list_tags(registry: RegistryData, request: Request, place: Place) -> Response:
    tags = [tag for tag in registry.tags(place) if tag > request.query.get("last", "")]
    headers = {"Content-Type": "application/json"}
    count = request.query.get("n", "")
    if count.isdigit() and int(count) < len(tags):
        tags = tags[: int(count)]
        last = tags[-1] if tags else ""
        headers["Link"] = f'</v2/{place.name}/tags/list?n={count}&last={last}>; rel="next"'
    return Response(200, headers, json.dumps({"name": place.name, "tags": tags}).encode())


_Handler = Callable[..., Response]
_ROUTES: Final[tuple[tuple[re.Pattern[str], Mapping[str, _Handler]], ...]] = (
    (_TAGS, {"GET": _list_tags}),
    (_MANIFEST, {"GET": _read_manifest, "HEAD": _read_manifest, "PUT": _put_manifest}),
    (_UPLOADS, {"POST": _begin_upload}),
    (_UPLOAD, {"GET": _show_upload, "PATCH": _patch_upload, "PUT": _put_upload, "DELETE": _cancel_upload}),
    (_BLOB, {"GET": _read_blob, "HEAD": _read_blob}),
)
