"""What do the calls of ECR's own API do with images? Those that move bytes or settings are answered here, all others by moto.

`scar.local.functions.hooks` puts these into moto's classes; tests/local/functions/test_lambda_hooks.py holds their signatures.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult
from moto.ecr.exceptions import (
    InvalidLayerPartException,
    InvalidParameterException,
    UploadNotFoundException,
    ValidationException,
)
from moto.ecr.models import ECRBackend
from moto.ecr.models import Image as EcrImage
from moto.ecr.responses import ECRResponse

from scar.local.address import caller
from scar.local.blobs import DIGEST, DigestMismatchError, Upload
from scar.local.registry import LayersNotFoundException, Place, RegistryData, image_size
from scar.local.registry_http import password, signed_url
from scar.local.registry_settings import BLOB_MOUNTING, DEFAULTS, ENABLED, Rule

_TOKEN_HOURS: Final = 12
# Amazon ECR API reference, UploadLayerPart (layerPartBlob) and LayerPartTooSmallException; InitiateLayerUpload's own advice
_MAX_PART_BYTES: Final = 20_971_520
_MIN_PART_BYTES: Final = 5 * 1024 * 1024
_PART_BYTES: Final = 10_485_760
# Amazon ECR API reference, CreatePullThroughCacheRule
_PREFIX: Final = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*/?")
_PREFIX_CHARS: Final = 30
_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar.gzip"

Replacement = Callable[[Callable[..., Any]], Callable[..., Any]]  # what stands there now → what shall stand there

HOOKED: Final[tuple[tuple[type, str, tuple[str, ...]], ...]] = (
    (ECRResponse, "get_authorization_token", ("self",)),
    (ECRResponse, "get_download_url_for_layer", ("self",)),
    (
        ECRBackend,
        "put_image",
        ("self", "repository_name", "image_manifest", "image_tag", "image_manifest_mediatype", "digest"),
    ),
    (ECRBackend, "batch_delete_image", ("self", "repository_name", "registry_id", "image_ids")),
    (ECRBackend, "delete_repository", ("self", "repository_name", "registry_id", "force")),
    (ECRBackend, "batch_check_layer_availability", ("self", "repository_name", "layer_digests", "registry_id")),
    (ECRBackend, "initiate_layer_upload", ("self", "repository_name", "registry_id")),
    (
        ECRBackend,
        "upload_layer_part",
        ("self", "repository_name", "upload_id", "part_first_byte", "part_last_byte", "layer_part_blob", "registry_id"),
    ),
    (ECRBackend, "complete_layer_upload", ("self", "repository_name", "upload_id", "layer_digests", "registry_id")),
    (EcrImage, "get_image_size_in_bytes", ("self",)),
)


def hooks(registry: RegistryData) -> dict[tuple[type, str], Replacement]:
    """What stands in the place of each of HOOKED."""
    uploads = _Uploads(registry)
    return {
        (ECRResponse, "get_authorization_token"): lambda _: lambda response: _authorization(registry, response),
        (ECRResponse, "get_download_url_for_layer"): lambda _: lambda response: _download_url(registry, response),
        (ECRBackend, "put_image"): lambda _: _putting_images(registry),
        (ECRBackend, "batch_delete_image"): lambda original: _mirrored(registry, original),
        (ECRBackend, "delete_repository"): lambda original: _mirrored(registry, original),
        (ECRBackend, "batch_check_layer_availability"): lambda _: _availability(registry),
        (ECRBackend, "initiate_layer_upload"): lambda _: _method(uploads.begin),
        (ECRBackend, "upload_layer_part"): lambda _: _method(uploads.part),
        (ECRBackend, "complete_layer_upload"): lambda _: _method(uploads.complete),
        (EcrImage, "get_image_size_in_bytes"): lambda _: image_size,
    }


def added(registry: RegistryData) -> Mapping[str, Callable[[ECRResponse], ActionResult]]:
    """Calls that moto does not have, by the name of the method that ECRResponse gets."""
    return {
        "get_account_setting": lambda response: _get_setting(registry, response),
        "put_account_setting": lambda response: _put_setting(registry, response),
        "create_pull_through_cache_rule": lambda response: _create_rule(registry, response),
        "describe_pull_through_cache_rules": lambda response: _describe_rules(registry, response),
        "delete_pull_through_cache_rule": lambda response: _delete_rule(registry, response),
    }


def _method(call: Callable[..., Any]) -> Callable[..., Any]:
    """A function that a class can hold: it is given the instance first, as `call` expects."""

    def method(backend: ECRBackend, *args: Any, **kwargs: Any) -> Any:
        return call(backend, *args, **kwargs)

    return method


def _error(code: str, what: str) -> ServiceException:
    """One of ECR's errors that moto has no class for."""
    return type(code, (ServiceException,), {"code": code})(what)


def _place(backend: ECRBackend, repository_name: str, registry_id: str | None = None) -> Place:
    """Raises moto's RepositoryNotFoundException."""
    backend._get_repository(repository_name, registry_id)  # moto has no public reader
    return Place(backend.account_id, backend.region_name, repository_name)


def _param(response: ECRResponse, name: str) -> Any:
    return response._get_param(name)  # moto's way to read a parameter


def _authorization(registry: RegistryData, response: ECRResponse) -> ActionResult:
    """A token that our data plane takes, for as long as AWS's, and where that data plane is."""
    key = caller({"HTTP_AUTHORIZATION": response.headers.get("Authorization", "")}).access_key
    accounts = _param(response, "registryIds") or [response.current_account]
    expires_at = datetime.now(UTC) + timedelta(hours=_TOKEN_HOURS)
    tokens = [
        {
            "authorizationToken": base64.b64encode(
                f"AWS:{password(registry, account, response.region, key)}".encode()
            ).decode(),
            "expiresAt": expires_at,
            "proxyEndpoint": registry.endpoint(),
        }
        for account in accounts
    ]
    return ActionResult({"authorizationData": tokens})


def _download_url(registry: RegistryData, response: ECRResponse) -> ActionResult:
    place = _place(response.ecr_backend, _param(response, "repositoryName"), _param(response, "registryId"))
    digest = str(_param(response, "layerDigest"))
    if registry.blob(place, digest) is None:
        raise LayersNotFoundException(f"The layer {digest} does not exist in the repository with name '{place.name}'.")
    url = signed_url(registry, place, digest, now=time.time())
    return ActionResult({"downloadUrl": url, "layerDigest": digest})


def _get_setting(registry: RegistryData, response: ECRResponse) -> ActionResult:
    name = _setting_name(response)
    return ActionResult(
        {"name": name, "value": registry.settings.value(response.current_account, response.region, name)}
    )


def _put_setting(registry: RegistryData, response: ECRResponse) -> ActionResult:
    name, value = _setting_name(response), str(_param(response, "value"))
    allowed = (ENABLED, "DISABLED") if name == BLOB_MOUNTING else (value,)
    if value not in allowed:
        raise InvalidParameterException(f"Invalid value '{value}' for the account setting '{name}'.")
    registry.settings.set_value(response.current_account, response.region, name, value)
    return ActionResult({"name": name, "value": value})


def _setting_name(response: ECRResponse) -> str:
    name = str(_param(response, "name"))
    if name not in DEFAULTS:
        raise ValidationException(f"Invalid account setting name '{name}'.")
    return name


def _create_rule(registry: RegistryData, response: ECRResponse) -> ActionResult:
    prefix, url = str(_param(response, "ecrRepositoryPrefix")), str(_param(response, "upstreamRegistryUrl"))
    rules = registry.settings.rules(response.current_account, response.region)
    if not _PREFIX.fullmatch(prefix) or len(prefix) > _PREFIX_CHARS:
        raise InvalidParameterException(f"Invalid parameter at 'ecrRepositoryPrefix': '{prefix}'")
    if any(rule.prefix == prefix for rule in rules):
        raise _error(
            "PullThroughCacheRuleAlreadyExistsException", f"There is a rule for the prefix '{prefix}' already."
        )
    rule = Rule(prefix.rstrip("/"), url.removeprefix("https://"), time.time())
    registry.settings.set_rules(response.current_account, response.region, (*rules, rule))
    return ActionResult(_rule(rule, response))


def _describe_rules(registry: RegistryData, response: ECRResponse) -> ActionResult:
    rules = registry.settings.rules(response.current_account, response.region)
    wanted = _param(response, "ecrRepositoryPrefixes")
    if missing := set(wanted or ()) - {rule.prefix for rule in rules}:
        raise _no_rule(", ".join(sorted(missing)))
    shown = [_rule(rule, response) for rule in rules if not wanted or rule.prefix in wanted]
    return ActionResult({"pullThroughCacheRules": shown})


def _delete_rule(registry: RegistryData, response: ECRResponse) -> ActionResult:
    prefix = str(_param(response, "ecrRepositoryPrefix"))
    rules = registry.settings.rules(response.current_account, response.region)
    gone = next((rule for rule in rules if rule.prefix == prefix), None)
    if gone is None:
        raise _no_rule(prefix)
    kept = tuple(rule for rule in rules if rule is not gone)
    registry.settings.set_rules(response.current_account, response.region, kept)
    return ActionResult(_rule(gone, response))


def _no_rule(prefix: str) -> ServiceException:
    return _error("PullThroughCacheRuleNotFoundException", f"There is no rule for the prefix '{prefix}'.")


def _rule(rule: Rule, response: ECRResponse) -> dict[str, Any]:
    return {
        "ecrRepositoryPrefix": rule.prefix,
        "upstreamRegistryUrl": rule.upstream,
        "createdAt": datetime.fromtimestamp(rule.created_at, UTC),
        "registryId": response.current_account,
    }


def _putting_images(registry: RegistryData) -> Callable[..., Any]:
    def put_image(
        backend: ECRBackend,
        repository_name: str,
        image_manifest: str,
        image_tag: str | None,
        image_manifest_mediatype: str | None = None,
        *rest: str | None,
        **named: str | None,
    ) -> Any:
        digest = rest[0] if rest else named.get("digest")
        place = _place(backend, repository_name)
        return registry.put_image(place, image_manifest, image_tag, image_manifest_mediatype, digest)

    return put_image


def _mirrored(registry: RegistryData, original: Callable[..., Any]) -> Callable[..., Any]:
    def replacement(backend: ECRBackend, repository_name: str, *args: Any, **kwargs: Any) -> Any:
        answer = original(backend, repository_name, *args, **kwargs)
        registry.mirror(Place(backend.account_id, backend.region_name, repository_name))
        return answer

    return replacement


def _availability(registry: RegistryData) -> Callable[..., Any]:
    def batch_check_layer_availability(
        backend: ECRBackend, repository_name: str, layer_digests: list[str], registry_id: str | None = None
    ) -> dict[str, Any]:
        place = _place(backend, repository_name, registry_id)
        layers: list[dict[str, Any]] = []
        failures: list[dict[str, Any]] = []
        for digest in layer_digests:
            path = registry.blob(place, digest)
            if path is not None:
                known = {"layerDigest": digest, "layerAvailability": "AVAILABLE", "mediaType": _LAYER}
                layers.append({**known, "layerSize": path.stat().st_size})
                continue
            code = "MissingLayerDigest" if DIGEST.fullmatch(digest) else "InvalidLayerDigest"
            failures.append({"layerDigest": digest, "failureCode": code, "failureReason": f"{digest}: {code}"})
        return {"layers": layers, "failures": failures}

    return batch_check_layer_availability


@dataclass(slots=True)
class _Arriving:
    """A layer that arrives in parts, and how long each was."""

    place: Place
    upload: Upload
    parts: list[int] = field(default_factory=list)


class _Uploads:
    """InitiateLayerUpload, UploadLayerPart, CompleteLayerUpload: how boto3 pushes a layer without Docker's protocol."""

    def __init__(self, registry: RegistryData) -> None:
        self._registry = registry
        self._arriving: dict[str, _Arriving] = {}

    def begin(self, backend: ECRBackend, repository_name: str, registry_id: str | None = None) -> dict[str, Any]:
        place = _place(backend, repository_name, registry_id)
        upload = self._registry.blobs.begin()
        self._arriving[upload.id] = _Arriving(place, upload)
        return {"uploadId": upload.id, "partSize": _PART_BYTES}

    def part(  # noqa: PLR0917 — moto's parameters
        self,
        backend: ECRBackend,
        repository_name: str,
        upload_id: str,
        part_first_byte: int,
        part_last_byte: int,
        layer_part_blob: bytes,
        registry_id: str | None = None,
    ) -> dict[str, Any]:
        arriving = self._find(_place(backend, repository_name, registry_id), upload_id)
        upload, size = arriving.upload, len(layer_part_blob)
        if size > _MAX_PART_BYTES:
            raise InvalidParameterException(f"A layer part has at most {_MAX_PART_BYTES} bytes, not {size}.")
        with upload.lock:
            if part_first_byte != upload.size or part_last_byte != part_first_byte + size - 1:
                raise InvalidLayerPartException(arriving.place.account, arriving.place.name, upload_id, upload.size - 1)
            upload.write(layer_part_blob)
            arriving.parts.append(size)
        known = {"registryId": arriving.place.account, "repositoryName": arriving.place.name}
        return {**known, "uploadId": upload_id, "lastByteReceived": upload.size - 1}

    def complete(
        self,
        backend: ECRBackend,
        repository_name: str,
        upload_id: str,
        layer_digests: list[str],
        registry_id: str | None = None,
    ) -> dict[str, Any]:
        place = _place(backend, repository_name, registry_id)
        arriving, digest = self._find(place, upload_id), layer_digests[0]
        if not arriving.parts:
            raise _error("EmptyUploadException", f"The upload '{upload_id}' has no parts.")
        if any(size < _MIN_PART_BYTES for size in arriving.parts[:-1]):
            raise _error(
                "LayerPartTooSmallException", f"Layer parts but the last have at least {_MIN_PART_BYTES} bytes."
            )
        del self._arriving[upload_id]
        if self._registry.blob(place, digest) is not None:
            self._registry.blobs.abandon(arriving.upload)
            raise _error("LayerAlreadyExistsException", f"The layer {digest} exists in '{place.name}' already.")
        try:
            self._registry.blobs.finish(arriving.upload, digest)
        except DigestMismatchError as error:
            raise _error("InvalidLayerException", str(error)) from error
        self._registry.arrived(place, digest)
        known = {"registryId": place.account, "repositoryName": place.name}
        return {**known, "uploadId": upload_id, "layerDigest": digest}

    def _find(self, place: Place, upload_id: str) -> _Arriving:
        arriving = self._arriving.get(upload_id)
        if arriving is None or arriving.place != place or self._registry.blobs.upload(upload_id) is None:
            self._arriving.pop(upload_id, None)
            raise UploadNotFoundException(upload_id, place.name, place.account)
        return arriving
