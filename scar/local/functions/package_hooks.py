"""What becomes of a deployment package or a layer that is handed to moto's Lambda? It is unpacked and checked here, as AWS does."""

from __future__ import annotations

import base64
import binascii
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from moto.awslambda.models import LambdaBackend, LambdaFunction, LayerVersion, lambda_backends
from moto.core.exceptions import ServiceException
from moto.s3.models import s3_backends
from moto.utilities.utils import get_partition

from scar.local.functions import control
from scar.local.functions.code import Code, CodeStore, check_sizes, digest_of
from scar.local.functions.unzip import BadCodeError

_INVALID: Final = "InvalidParameterValueException"


def set_package(store: CodeStore, function: LambdaFunction, updated: Mapping[str, Any]) -> None:
    """CreateFunction and UpdateFunctionCode of a zip function."""
    code = _stored(store, updated, function.account_id, function.region)
    _check(store, code.unzipped_bytes, control.layers_of(function))
    if updated.get("DryRun"):
        return
    function.code_sha_256, function.code_size = code.code_sha256, code.size
    function.code_digest, function.code_bytes = code.digest, b""
    # A new dict: published versions share the old one.
    place = {key: updated[key] for key in ("S3Bucket", "S3Key", "S3ObjectVersion") if updated.get(key)}
    function.code = place or {"S3Key": f"{function.function_name}-{uuid.uuid4()}"}


def publishing_layer(store: CodeStore) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """PublishLayerVersion."""

    def hook(original: Callable[..., Any]) -> Callable[..., Any]:
        def replacement(backend: LambdaBackend, spec: dict[str, Any]) -> LayerVersion:
            code = _stored(store, spec.get("Content") or {}, backend.account_id, backend.region_name)
            version = original(backend, {**spec, "Content": {"ZipFile": ""}})
            version.code_sha_256, version.code_size = code.code_sha256, code.size
            version.code_digest, version.code_bytes = code.digest, b""
            return version

        return replacement

    return hook


def remembering_layers(store: CodeStore) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A function keeps the layers it was given, also when their versions are deleted later."""

    def hook(original: Callable[..., Any]) -> Callable[..., Any]:
        def replacement(function: LambdaFunction, arns: Sequence[str]) -> Any:
            answer = original(function, arns)
            backend = lambda_backends[function.account_id][function.region]
            digests = tuple(digest_of(backend.layers_versions_by_arn(arn).code_sha_256) for arn in arns)
            if hasattr(function, "code_sha_256") and digests and function.package_type == "Zip":
                _check(store, store.unzipped_bytes(digest_of(function.code_sha_256)), digests)
            setattr(function, control.LAYERS, digests)
            return answer

        return replacement

    return hook


def adopt(store: CodeStore) -> None:
    """Take over the bytes that an earlier release left in moto's objects."""
    for holder in _holders():
        if getattr(holder, "code_bytes", b""):
            try:
                code = store.put([holder.code_bytes])
            except BadCodeError:
                continue  # its invocation will say that the code is missing
            holder.code_bytes, holder.code_digest, holder.code_sha_256 = b"", code.digest, code.code_sha256


def referred() -> list[str]:
    """Digests of the packages of every function version and layer version there is."""
    found: list[str] = []
    for holder in _holders():
        if isinstance(holder, LambdaFunction):
            found += control.layers_of(holder)
        if holder.code_sha_256:
            found.append(digest_of(holder.code_sha_256))
    return found


def _holders() -> Iterable[Any]:
    """Every version of every zip function, and every layer version."""
    for _, _, backend in list(lambda_backends.iter_backends()):
        for group in list(backend._lambdas._functions.values()):  # moto's own listing deep-copies
            for function in (group["latest"], *group["versions"]):
                if function is not None and function.package_type != "Image":
                    yield function
        for layer in list(backend._layers._layers.values()):
            yield from list(layer.layer_versions.values())


def _stored(store: CodeStore, source: Mapping[str, Any], account: str, region: str) -> Code:
    try:
        return store.put(_content(source, account, region))
    except BadCodeError as error:
        raise control.RefusedError(_INVALID, str(error)) from error


def _check(store: CodeStore, code_bytes: int, layers: Sequence[str]) -> None:
    try:
        check_sizes([code_bytes, *(store.unzipped_bytes(digest) for digest in layers)] if layers else [])
    except (BadCodeError, LookupError) as error:
        raise control.RefusedError(_INVALID, str(error)) from error


def _content(source: Mapping[str, Any], account: str, region: str) -> Iterable[bytes]:
    if "ZipFile" in source:
        try:
            return [base64.b64decode(source["ZipFile"], validate=True)]
        except (binascii.Error, ValueError, TypeError) as error:
            raise BadCodeError(
                "Could not unzip uploaded file. Please check your file, then try to upload again."
            ) from error
    if not (source.get("S3Bucket") and source.get("S3Key")):
        raise control.RefusedError(_INVALID, "Please provide a source for function code.")
    return _object(source, account, region)


def _object(source: Mapping[str, Any], account: str, region: str) -> Iterable[bytes]:
    failed = "Error occurred while GetObject. S3 Error Code: {}. S3 Error Message: {}"
    backend = s3_backends[account][get_partition(region)]
    try:
        found = backend.get_object(source["S3Bucket"], source["S3Key"], source.get("S3ObjectVersion"))
    except ServiceException as error:
        raise control.RefusedError(_INVALID, failed.format(error.code, error.message)) from error
    if found is None:
        raise control.RefusedError(_INVALID, failed.format("NoSuchKey", "The specified key does not exist."))
    value = found.value
    # The local AWS keeps an object's bytes on disk and reads them in parts; moto alone has them in memory.
    return [value] if isinstance(value, bytes) else value
