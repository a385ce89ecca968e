"""Which actions on which buckets and keys does an S3 request need? Its method and sub-resource tell.

Source: AmazonS3/latest/userguide/using-with-s3-policy-actions (required permissions for S3 API operations)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import unquote
from xml.etree import ElementTree

from scar.local.iam.evaluate import Asked
from scar.local.iam.request import Request

# sub-resource → (to read it, to write it); what is written is also taken away with the right to write it, where there is no other word
_BUCKET: Final[Mapping[str, tuple[str, str]]] = {
    "accelerate": ("GetAccelerateConfiguration", "PutAccelerateConfiguration"),
    "acl": ("GetBucketAcl", "PutBucketAcl"),
    "cors": ("GetBucketCORS", "PutBucketCORS"),
    "encryption": ("GetEncryptionConfiguration", "PutEncryptionConfiguration"),
    "lifecycle": ("GetLifecycleConfiguration", "PutLifecycleConfiguration"),
    "location": ("GetBucketLocation", "GetBucketLocation"),
    "logging": ("GetBucketLogging", "PutBucketLogging"),
    "notification": ("GetBucketNotification", "PutBucketNotification"),
    "object-lock": ("GetBucketObjectLockConfiguration", "PutBucketObjectLockConfiguration"),
    "ownershipControls": ("GetBucketOwnershipControls", "PutBucketOwnershipControls"),
    "policy": ("GetBucketPolicy", "PutBucketPolicy"),
    "policyStatus": ("GetBucketPolicyStatus", "PutBucketPolicy"),
    "publicAccessBlock": ("GetBucketPublicAccessBlock", "PutBucketPublicAccessBlock"),
    "replication": ("GetReplicationConfiguration", "PutReplicationConfiguration"),
    "requestPayment": ("GetBucketRequestPayment", "PutBucketRequestPayment"),
    "tagging": ("GetBucketTagging", "PutBucketTagging"),
    "versioning": ("GetBucketVersioning", "PutBucketVersioning"),
    "website": ("GetBucketWebsite", "PutBucketWebsite"),
    "uploads": ("ListBucketMultipartUploads", "ListBucketMultipartUploads"),
    "versions": ("ListBucketVersions", "ListBucketVersions"),
}
_OBJECT: Final[Mapping[str, tuple[str, str, str]]] = {
    "acl": ("GetObjectAcl", "PutObjectAcl", "PutObjectAcl"),
    "attributes": ("GetObject", "GetObject", "GetObject"),
    "legal-hold": ("GetObjectLegalHold", "PutObjectLegalHold", "PutObjectLegalHold"),
    "retention": ("GetObjectRetention", "PutObjectRetention", "PutObjectRetention"),
    "tagging": ("GetObjectTagging", "PutObjectTagging", "DeleteObjectTagging"),
    "torrent": ("GetObjectTorrent", "GetObjectTorrent", "GetObjectTorrent"),
    "restore": ("RestoreObject", "RestoreObject", "RestoreObject"),
}
_READS: Final = ("GET", "HEAD")


def asked_of_s3(request: Request, body: bytes) -> Iterator[Asked]:
    bucket, _, key = request.path.removeprefix("/").partition("/")
    if not bucket:
        yield _ask(request, "ListAllMyBuckets", "*")
    elif not key:
        yield from _of_bucket(request, bucket, body)
    else:
        yield from _of_object(request, bucket, key)


def _of_bucket(r: Request, bucket: str, body: bytes) -> Iterator[Asked]:
    sub = next((name for name in _BUCKET if name in r.query), None)
    if sub is not None:
        reads, writes = _BUCKET[sub]
        action = (
            reads if r.method in _READS else "DeleteBucketPolicy" if (sub, r.method) == ("policy", "DELETE") else writes
        )
        yield _ask(r, action, bucket)
    elif r.method == "PUT":
        yield _ask(r, "CreateBucket", bucket)
        if "x-amz-object-ownership" in r.headers:
            yield _ask(r, "PutBucketOwnershipControls", bucket)
        if "x-amz-acl" in r.headers:
            yield _ask(r, "PutBucketAcl", bucket)
    elif r.method == "DELETE":
        yield _ask(r, "DeleteBucket", bucket)
    elif r.method == "POST" and "delete" in r.query:
        for key, version in _to_delete(body):
            yield _ask(r, "DeleteObjectVersion" if version else "DeleteObject", f"{bucket}/{key}")
    elif r.method == "POST":
        yield _ask(r, "PutObject", f"{bucket}/*")  # a browser's form names its key in the middle of its body
    else:
        yield _ask(r, "ListBucket", bucket)


def _of_object(r: Request, bucket: str, key: str) -> Iterator[Asked]:
    place = f"{bucket}/{key}"
    version = "Version" if "versionId" in r.query else ""
    sub = next((name for name in _OBJECT if name in r.query), None)
    if sub is not None:
        reads, writes, deletes = _OBJECT[sub]
        action = reads if r.method in _READS else deletes if r.method == "DELETE" else writes
        yield _ask(r, f"{action.replace('Object', f'Object{version}', 1)}" if version else action, place)
    elif "uploadId" in r.query:
        if r.method == "DELETE":
            yield _ask(r, "AbortMultipartUpload", place)
        elif r.method in _READS:
            yield _ask(r, "ListMultipartUploadParts", place)
        else:
            yield from _written(r, place)
    elif r.method in _READS:
        yield _ask(r, f"GetObject{version}", place)
    elif r.method == "DELETE":
        yield _ask(r, f"DeleteObject{version}", place)
    else:
        yield from _written(r, place)


def _written(r: Request, place: str) -> Iterator[Asked]:
    yield _ask(r, "PutObject", place)
    if "if-match" in r.headers:  # AmazonS3/latest/userguide/conditional-writes: it tells what is there
        yield _ask(r, "GetObject", place)
    if "x-amz-acl" in r.headers:
        yield _ask(r, "PutObjectAcl", place)
    if "x-amz-tagging" in r.headers:
        yield _ask(r, "PutObjectTagging", place)
    if source := r.headers.get("x-amz-copy-source"):
        path, _, query = source.partition("?")
        yield _ask(r, "GetObjectVersion" if "versionId=" in query else "GetObject", unquote(path).removeprefix("/"))


def _ask(r: Request, action: str, place: str) -> Asked:
    context = {
        f"s3:{name}": tuple(r.query[name])
        for name in ("prefix", "delimiter", "max-keys")
        if name in r.query and "/" not in place
    }
    for header in ("x-amz-server-side-encryption", "x-amz-acl"):
        if header in r.headers:
            context[f"s3:{header}"] = (r.headers[header],)
    return Asked(f"s3:{action}", f"arn:{r.partition}:s3:::{place}", context)


def _to_delete(body: bytes) -> Iterator[tuple[str, str]]:
    """Keys and versions of a DeleteObjects document; one that cannot be read asks for every key, and S3 will refuse it."""
    try:
        root = ElementTree.fromstring(body)  # noqa: S314 - expat expands no external entity, and the daemon's caller is local
    except ElementTree.ParseError:
        yield "*", ""
        return
    for one in root.iter():
        if one.tag.rpartition("}")[2] == "Object":
            texts = {child.tag.rpartition("}")[2]: child.text or "" for child in one}
            yield texts.get("Key", ""), texts.get("VersionId", "")
