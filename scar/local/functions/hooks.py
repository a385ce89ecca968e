"""Which names of moto are replaced, and by what? All of them are here; tests/local/functions/test_hooks.py holds each signature.

moto has no extension points; assigning class attributes is what there is. What is not replaced stays moto's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from moto.awslambda.models import EventInvokeConfig, ImageConfig, LambdaBackend, LambdaFunction
from moto.awslambda.responses import LambdaResponse
from moto.ecr.responses import ECRResponse

from scar.local import hooks as moto_names
from scar.local import registry_control
from scar.local.functions import control, invoking, package_hooks
from scar.local.registry import RegistryData

if TYPE_CHECKING:
    from scar.local.functions.engine import Functions

_INVALID: Final = "InvalidParameterValueException"

# (class, attribute, its parameters): what `install` replaces or calls. The test compares them with moto's.
HOOKED: Final[tuple[tuple[type, str, tuple[str, ...]], ...]] = (
    (LambdaResponse, "invoke", ("self",)),
    (LambdaResponse, "invoke_async", ("self",)),
    (LambdaResponse, "_enrich_response", ("headers", "body")),
    (LambdaFunction, "invoke", ("self", "body", "request_headers", "response_headers")),
    (LambdaFunction, "_set_function_code", ("self", "updated_spec")),
    (LambdaFunction, "_get_layers_data", ("self", "layers_versions_arns")),
    (LambdaBackend, "publish_layer_version", ("self", "spec")),
    (LambdaFunction, "get_code", ("self",)),
    (LambdaFunction, "get_configuration", ("self", "on_create")),
    (LambdaFunction, "update_configuration", ("self", "config_updates")),
    (LambdaBackend, "create_function", ("self", "spec")),
    (LambdaBackend, "delete_function", ("self", "function_name", "qualifier")),
    (LambdaBackend, "send_sns_message", ("self", "function_name", "message", "subject", "qualifier")),
    (
        LambdaBackend,
        "send_log_event",
        ("self", "function_arn", "filter_name", "log_group_name", "log_stream_name", "log_events"),
    ),
    (LambdaBackend, "put_function_event_invoke_config", ("self", "function_name", "config")),
    (LambdaBackend, "update_function_event_invoke_config", ("self", "function_name", "config")),
    *registry_control.HOOKED,
)

# What is called, or read, as it is (the form is scar.local.hooks.NAMES').
USED: Final[Mapping[str, tuple[str, ...] | None]] = {
    "moto.awslambda.models:LambdaBackend.get_function": ("self", "function_name_or_arn", "qualifier"),
    "moto.awslambda.models:LambdaBackend.layers_versions_by_arn": ("self", "layer_version_arn"),
    "moto.s3.models:S3Backend.get_object": ("self", "bucket_name", "key_name", "version_id"),
    "moto.awslambda.models:EventInvokeConfig.__init__": ("self", "arn", "last_modified", "config"),
    "moto.awslambda.models:ImageConfig.__init__": ("self", "config"),
    "moto.ecr.models:ECRBackend.create_repository": ("self", "repository_name", "registry_id"),
    "moto.ecr.models:ECRBackend._get_repository": ("self", "name", "registry_id"),
    "moto.ecr.models:ECRBackend._resolve_image_tag_mutability": ("self", "repository", "proposed_image_tag"),
    "moto.ecr.models:Image.__init__": ("self", "account_id", "tag", "manifest", "repository"),
    "moto.ecr.models:Image.get_image_digest": ("self",),
    "moto.sts.models:STSBackend.assume_role": ("self", "region_name", "role_session_name", "role_arn", "policy"),
    "moto.sqs.models:SQSBackend.send_message": ("self", "queue_name", "message_body", "message_attributes"),
    "moto.sns.models:SNSBackend.publish": ("self", "message", "arn"),
    "moto.events.models:Rule.send_to_targets": ("self", "original_event", "transform_input"),
    "moto.core.base_backend:BackendDict.iter_backends": ("self",),
}


def install(functions: Functions, registry: RegistryData) -> Callable[[], None]:
    """Replace them; calling the answer puts moto back as it was. Raises scar.local.hooks.MovedError for a moto of another shape."""
    undo = ExitStack()
    moto_names.check({**USED, **{moto_name(owner, name): taken for owner, name, taken in HOOKED}})
    replacements = {**_lambda_hooks(functions), **registry_control.hooks(registry)}
    for name, method in registry_control.added(registry).items():
        undo.callback(_put_back, ECRResponse, name, vars(ECRResponse).get(name))
        setattr(ECRResponse, name, method)
    for owner, name, _ in HOOKED:
        undo.callback(_put_back, owner, name, vars(owner).get(name))
        setattr(owner, name, replacements[owner, name](getattr(owner, name)))
    return undo.close


def moto_name(owner: type, name: str) -> str:
    """As scar.local.hooks names it."""
    return f"{owner.__module__}:{owner.__name__}.{name}"


def _put_back(owner: type, name: str, own: Any) -> None:
    """An attribute that was inherited is inherited again."""
    if own is None:
        delattr(owner, name)
    else:
        setattr(owner, name, own)


_Replacement = Callable[[Callable[..., Any]], Callable[..., Any]]  # what stands there now → what shall stand there


def _lambda_hooks(functions: Functions) -> dict[tuple[type, str], _Replacement]:
    def invoke_request(_: Callable[..., Any]) -> Callable[..., Any]:
        return lambda response: invoking.invoke_request(functions, response)

    def invoke_async_request(_: Callable[..., Any]) -> Callable[..., Any]:
        return lambda response: invoking.invoke_async_request(functions, response)

    def invoke(_: Callable[..., Any]) -> Callable[..., Any]:
        def replacement(function: LambdaFunction, body: Any, request_headers: Any, response_headers: Any) -> bytes:
            return invoking.invoke_by_moto(functions, function, body, request_headers, response_headers)

        return replacement

    def set_code(_: Callable[..., Any]) -> Callable[..., Any]:
        def replacement(function: LambdaFunction, updated_spec: dict[str, Any]) -> None:
            image = function.package_type == "Image"
            if image and "ImageUri" not in updated_spec:
                raise control.RefusedError(
                    _INVALID, "Please provide ImageUri when updating a function with packageType Image."
                )
            if not image and "ImageUri" in updated_spec:
                raise control.RefusedError(
                    _INVALID, "Please don't provide ImageUri when updating a function with packageType Zip."
                )
            if image:
                _set_image(functions.registry, function, updated_spec)
            else:
                package_hooks.set_package(functions.code, function, updated_spec)
            if updated_spec.get("Architectures") and not updated_spec.get("DryRun"):
                function.architectures = updated_spec["Architectures"]

        return replacement

    def delete_function(original: Callable[..., Any]) -> Callable[..., Any]:
        def replacement(backend: LambdaBackend, function_name: str, qualifier: str | None = None) -> None:
            function = backend.get_function(function_name, qualifier)
            original(backend, function_name, qualifier)
            functions.retire(control.unqualified_arn(function))

        return replacement

    return {
        (LambdaResponse, "invoke"): invoke_request,
        (LambdaResponse, "invoke_async"): invoke_async_request,
        (LambdaResponse, "_enrich_response"): invoking.with_request_id,
        (LambdaFunction, "invoke"): invoke,
        (LambdaFunction, "_set_function_code"): set_code,
        (LambdaFunction, "_get_layers_data"): package_hooks.remembering_layers(functions.code),
        (LambdaBackend, "publish_layer_version"): package_hooks.publishing_layer(functions.code),
        (LambdaFunction, "get_code"): _with_resolved_image,
        (LambdaFunction, "get_configuration"): _with_kept_configuration,
        (LambdaFunction, "update_configuration"): _keeping_updates,
        (LambdaBackend, "create_function"): _keeping_creation,
        (LambdaBackend, "delete_function"): delete_function,
        (LambdaBackend, "send_sns_message"): invoking.asynchronously,
        (LambdaBackend, "send_log_event"): invoking.asynchronously,
        (LambdaBackend, "put_function_event_invoke_config"): lambda _: _put_event_config,
        (LambdaBackend, "update_function_event_invoke_config"): lambda _: _update_event_config,
    }


# Control plane of Lambda


def _set_image(registry: RegistryData, function: LambdaFunction, updated: dict[str, Any]) -> None:
    """CreateFunction and UpdateFunctionCode with an image: a tag becomes its digest now, and the image must be there."""
    uri = updated["ImageUri"]
    parsed = control.ImageUri.parse(uri)
    if parsed is None:
        raise control.RefusedError(
            "InvalidParameterValueException", f"Source image {uri} is not valid. Provide a valid source image."
        )
    try:
        image = registry.image(f"{parsed.host}/{parsed.repository}", parsed.reference)
    except LookupError as error:
        what = f"Source image {uri} does not exist. Provide a valid source image. ({error})"
        raise control.RefusedError("InvalidParameterValueException", what) from error
    if updated.get("DryRun"):
        return
    function.code_sha_256 = image.digest.removeprefix("sha256:")
    function.code_digest = image.digest
    function.code_bytes = b""
    function.code_size = image.size
    # A new dict: published versions share the old one.
    function.code = {**function.code, "ImageUri": uri}


def _with_resolved_image(original: Callable[..., Any]) -> Callable[..., Any]:
    def replacement(function: LambdaFunction) -> dict[str, Any]:
        answer: dict[str, Any] = original(function)
        parsed = control.ImageUri.parse(function.code.get("ImageUri", ""))
        if parsed is not None:
            resolved = f"{parsed.host}/{parsed.repository}@sha256:{function.code_sha_256}"
            answer["Code"]["ResolvedImageUri"] = resolved
        return answer

    return replacement


def _with_kept_configuration(original: Callable[..., Any]) -> Callable[..., Any]:
    def replacement(function: LambdaFunction, on_create: bool = False) -> dict[str, Any]:
        answer: dict[str, Any] = original(function, on_create)
        answer.update(control.kept(function))
        answer.setdefault("LoggingConfig", {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{function.function_name}"})
        return answer

    return replacement


def _keeping_creation(original: Callable[..., Any]) -> Callable[..., Any]:
    def replacement(backend: LambdaBackend, spec: dict[str, Any]) -> LambdaFunction:
        answer = original(backend, spec)
        # moto answers a copy when a version is published at once, and the version is another.
        for function in (answer, backend.get_function(answer.function_name, str(answer.version))):
            _keep(function, spec)
        _keep(backend.get_function(answer.function_name), spec)
        return answer

    return replacement


def _keeping_updates(original: Callable[..., Any]) -> Callable[..., Any]:
    def replacement(function: LambdaFunction, config_updates: dict[str, Any]) -> dict[str, Any]:
        _keep(function, config_updates)
        if "ImageConfig" in config_updates:
            function.image_config = ImageConfig(config_updates["ImageConfig"])
        if "EphemeralStorage" in config_updates:
            function.ephemeral_storage = config_updates["EphemeralStorage"]["Size"]
        answer: dict[str, Any] = original(function, config_updates)
        return answer

    return replacement


def _keep(function: LambdaFunction, spec: Mapping[str, Any]) -> None:
    given = {key: spec[key] for key in control.KEPT_KEYS if spec.get(key) is not None}
    if given:
        setattr(function, control.KEPT, {**control.kept(function), **given})


def _put_event_config(backend: LambdaBackend, function_name: str, config: dict[str, Any]) -> dict[str, Any]:
    """Replaces what was there; moto appends and then reads the first."""
    function = backend.get_function(function_name)
    _refuse_itself(function, config)
    settings = EventInvokeConfig(f"{control.unqualified_arn(function)}:$LATEST", function.last_modified, config)
    function.event_invoke_config[:] = [settings]
    answer: dict[str, Any] = settings.response()
    return answer


def _refuse_itself(function: LambdaFunction, config: Mapping[str, Any]) -> None:
    """As AWS does, whatever the qualifier: a function that fails would start itself for ever."""
    own = control.unqualified_arn(function)
    for told in (config.get("DestinationConfig") or {}).values():
        if ":".join(str((told or {}).get("Destination", "")).split(":")[:7]) == own:
            raise control.RefusedError(_INVALID, "You can't specify the function as a destination for itself.")


def _update_event_config(backend: LambdaBackend, function_name: str, config: dict[str, Any]) -> dict[str, Any]:
    function = backend.get_function(function_name)
    before = function.event_invoke_config[-1].config if function.event_invoke_config else {}
    return _put_event_config(backend, function_name, {**before, **config})
