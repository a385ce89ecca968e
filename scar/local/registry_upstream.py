"""What does a pull-through cache of ECR do? It fetches what it is asked for and does not hold from the registry that its rule names.

As ECR: the repository is made when it is first needed, a manifest comes when it is asked for and a layer when that is; nobody else, Lambda
included, makes it fetch anything. A tag is asked for upstream once and stays, where ECR looks again after a day.
Source: docs.aws.amazon.com/AmazonECR/latest/userguide/pull-through-cache.html
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from moto.ecr.models import ecr_backends

from scar.errors import ScarError
from scar.local.registry_manifest import ManifestError
from scar.package.oci import Descriptor
from scar.package.registry import Registry

if TYPE_CHECKING:
    from scar.local.registry import Place, RegistryData

_log = logging.getLogger(__name__)


def fetch_manifest(registry: RegistryData, place: Place, reference: str) -> bool:
    """Make a manifest known that upstream has; whether there is one. The repository is made with it."""
    rule = registry.settings.rule_of(place.account, place.region, place.name)
    if rule is None:
        return False
    try:
        manifest = Registry(rule.upstream).manifest(place.name.removeprefix(f"{rule.prefix}/"), reference)
    except ScarError as error:
        _log.warning("%s:%s could not be fetched from %s: %s", place.name, reference, rule.upstream, error)
        return False
    backend = ecr_backends[place.account][place.region]
    if place.name not in backend.repositories:
        backend.create_repository(place.name, None, None, None, "MUTABLE", [])
    try:
        registry.push(place, manifest.content, manifest.media_type, reference, whole=False)
    except ManifestError as error:
        _log.warning("%s:%s of %s cannot be kept: %s", place.name, reference, rule.upstream, error)
        return False
    return True


def fetch_blob(registry: RegistryData, place: Place, digest: str) -> Path | None:
    """A blob of a cached image, fetched now; None when it is of no such image, or upstream does not give it."""
    rule = registry.settings.rule_of(place.account, place.region, place.name)
    size = registry.promised(place, digest) if rule is not None else None
    if rule is None or size is None:
        return None
    upload = registry.blobs.begin()
    try:
        source = Registry(rule.upstream).blob(place.name.removeprefix(f"{rule.prefix}/"), Descriptor("", digest, size))
        for chunk in source.open():
            upload.write(chunk)
    except ScarError as error:
        registry.blobs.abandon(upload)
        _log.warning("%s of %s could not be fetched from %s: %s", digest, place.name, rule.upstream, error)
        return None
    registry.blobs.finish(upload, digest)
    registry.arrived(place, digest)
    return registry.blob(place, digest)
