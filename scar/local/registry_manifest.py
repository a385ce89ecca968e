"""What does a manifest refer to, and is it one that ECR takes?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from scar.local.blobs import DIGEST

OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
INDEXES: Final = frozenset(
    {"application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"}
)
MANIFESTS: Final = INDEXES | {OCI_MANIFEST, "application/vnd.docker.distribution.manifest.v2+json"}


class ManifestError(Exception):
    """A manifest that cannot be taken; `code` is the distribution specification's word."""

    def __init__(self, code: str, what: str) -> None:
        super().__init__(what)
        self.code = code


def parts(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The descriptors of the configuration and the layers; none of an index."""
    return [part for part in (document.get("config"), *document.get("layers", ())) if part]


def refers_to(content: bytes) -> frozenset[str]:
    """The blobs of a manifest that was taken: its configuration and its layers."""
    return frozenset(part["digest"] for part in parts(json.loads(content)))


def json_object(content: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(content)
    except ValueError as error:
        raise ManifestError("MANIFEST_INVALID", "not JSON") from error
    if not isinstance(document, dict):
        raise ManifestError("MANIFEST_INVALID", "not a JSON object")
    return document


def references(content: bytes, media_type: str) -> list[str]:
    """Digests that a manifest needs; raises ManifestError for one of a wrong shape."""
    document = json_object(content)
    if media_type not in MANIFESTS or document.get("schemaVersion") != 2:
        raise ManifestError("MANIFEST_INVALID", f"media type {media_type!r} is not supported")
    try:
        needed = document["manifests"] if media_type in INDEXES else [document["config"], *document["layers"]]
        digests = [part["digest"] for part in needed]
    except (KeyError, TypeError) as error:
        raise ManifestError("MANIFEST_INVALID", f"a descriptor is missing: {error}") from error
    if not all(isinstance(digest, str) and DIGEST.fullmatch(digest) for digest in digests):
        raise ManifestError("DIGEST_INVALID", "a digest is not sha256")
    return digests
