"""From a user's image to a function's image: two layers on top, the agent as entry point, nothing unpacked.

Pure: the same base, agent, spec and script give the same manifest digest, today and on another machine.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from faassupervisor import contract
from scar.errors import ScarError
from scar.package import oci
from scar.package.agent import AgentLayer
from scar.package.layer import Directory, Entry, File, layer_of, memory_blob

CREATED: Final = "1970-01-01T00:00:00Z"
MAX_LAYERS: Final = 127  # docs.docker.com, storage drivers: overlay2 stacks 128 at most
MAX_CONFIG_BYTES: Final = 4 << 20

# What would change how the agent's own interpreter loads and runs. The spec remembers them for the user's process.
# Of AWS's variables only Lambda's and Batch's own count for the agent: an image's profile, keys or endpoint would take their place.
_CLEARED: Final = frozenset(
    {"GLIBC_TUNABLES", "GCONV_PATH", "OPENSSL_CONF", "OPENSSL_MODULES", "OPENSSL_ENGINES", "SSLKEYLOGFILE"}
)
_CLEARED_PREFIXES: Final = ("LD_", "PYTHON", "AWS_")
_NOT_CLEARED: Final = frozenset({"AWS_CA_BUNDLE"})  # a network's own authority, which the agent needs as well
# About a process that is no longer the container's first one.
_DROPPED: Final = ("Cmd", "User", "Healthcheck", "OnBuild", "StopSignal", "Shell", "ArgsEscaped")
AGENT_HISTORY: Final = "scar: agent: "  # and its version: how an image tells which agent it has
_KEPT: Final = ("architecture", "os", "variant", "os.version", "os.features", "author")


def function_layer(spec: contract.Spec, script: bytes | None) -> oci.Layer:
    """The spec and the script as the agent finds them, and the folder that it works in: a few hundred bytes."""
    root = contract.FUNCTION_ROOT.lstrip("/")
    entries: list[Entry] = [Directory(root), File(contract.SPEC_PATH.lstrip("/"), spec.to_json())]
    # An image made from nothing has none, and of all runtimes only Lambda makes it.
    entries.append(Directory("tmp", 0o1777))
    if script is not None:
        entries.append(File(contract.SCRIPT_PATH.lstrip("/"), script, 0o755))
    return layer_of(entries)


def derive(base: oci.Image, agent: AgentLayer, *, spec: contract.Spec, script: bytes | None) -> oci.Image:
    """The function's image. `spec.image` and `spec.has_script` are replaced by what the base and the script say.

    Raises ScarError when the base is for another architecture, is a function's image itself, or has too many layers.
    """
    config = read_config(base)
    _check(base, config, agent)
    process = image_process(config)
    spec = dataclasses.replace(spec, has_script=script is not None, image=process)
    layers = (*base.layers, agent.layer, function_layer(spec, script))
    return assemble(_derived_config(config, layers, agent), layers)


def assemble(config: Mapping[str, Any], layers: Sequence[oci.Layer]) -> oci.Image:
    """An image of this config and these layers, as a Docker schema 2 manifest (what Lambda accepts)."""
    config_blob = memory_blob(_json(config), oci.DOCKER_CONFIG)
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": oci.DOCKER_MANIFEST,
            "config": _descriptor(config_blob.descriptor, oci.DOCKER_CONFIG),
            "layers": [_descriptor(layer.blob.descriptor, oci.DOCKER_LAYER_GZIP) for layer in layers],
        }
    )
    digest = memory_blob(manifest, oci.DOCKER_MANIFEST).descriptor.digest
    return oci.Image(manifest, oci.DOCKER_MANIFEST, digest, config_blob, tuple(layers))


def read_config(image: oci.Image) -> Mapping[str, Any]:
    """The image's configuration document; raises ScarError when it is none."""
    descriptor = image.config.descriptor
    if descriptor.size > MAX_CONFIG_BYTES:
        raise ScarError(f"the image's configuration has {descriptor.size} bytes; {MAX_CONFIG_BYTES} are read at most")
    try:
        config = json.loads(b"".join(image.config.open()))
    except ValueError as error:
        raise ScarError(f"the image's configuration {descriptor.digest} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise ScarError(f"the image's configuration {descriptor.digest} is not a JSON object")
    return config


def image_process(config: Mapping[str, Any]) -> contract.ImageProcess:
    """The process that the image describes."""
    settings = _settings(config)
    environment = {}
    for item in _strings(settings, "Env"):
        name, _, value = item.partition("=")
        environment[name] = value
    return contract.ImageProcess(
        entrypoint=_strings(settings, "Entrypoint"),
        command=_strings(settings, "Cmd"),
        environment=environment,
        working_directory=_string(settings, "WorkingDir"),
        user=_string(settings, "User"),
    )


def _check(base: oci.Image, config: Mapping[str, Any], agent: AgentLayer) -> None:
    system, architecture = config.get("os"), config.get("architecture")
    if (system, architecture) != ("linux", agent.architecture):
        raise ScarError(
            f"the image is for {system}/{architecture}, the function for linux/{agent.architecture}",
            fix="Name an image of that architecture, or set `architectures` to the image's own.",
        )
    entrypoint = _strings(_settings(config), "Entrypoint")
    if entrypoint and entrypoint[0].startswith(contract.AGENT_ROOT + "/"):
        raise ScarError(
            "the image is already a function's image: its entry point is the agent",
            fix="Name the image that it was made from; or, when it lies in ECR, run it as it is: `create_image: false`.",
        )
    if len(base.layers) + 2 > MAX_LAYERS:
        raise ScarError(
            f"the image has {len(base.layers)} layers; with the agent's two they may be {MAX_LAYERS}",
            fix="Squash the image (for example: docker build --squash, or buildah bud --squash).",
        )


def _derived_config(config: Mapping[str, Any], layers: Sequence[oci.Layer], agent: AgentLayer) -> Mapping[str, Any]:
    settings = {key: value for key, value in _settings(config).items() if key not in _DROPPED}
    settings["Entrypoint"] = list(agent.entrypoint)
    settings["WorkingDir"] = "/"
    settings["Env"] = [item for item in _strings(settings, "Env") if not _is_cleared(item.partition("=")[0])]
    return {
        **{key: config[key] for key in _KEPT if key in config},
        "created": CREATED,
        "config": settings,
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [
            *_history(config, len(layers) - 2),
            {"created": CREATED, "created_by": AGENT_HISTORY + agent.version},
            {"created": CREATED, "created_by": "scar: function"},
        ],
    }


def _history(config: Mapping[str, Any], layers: int) -> list[Any]:
    """The base's history, padded or dropped where it does not speak of as many layers as there are."""
    history = config.get("history")
    if isinstance(history, list) and all(isinstance(item, dict) for item in history):
        filled = sum(1 for item in history if not item.get("empty_layer"))
        if filled == layers:
            return history
    return [{"created": CREATED}] * layers


def _is_cleared(name: str) -> bool:
    return name in _CLEARED or (name.startswith(_CLEARED_PREFIXES) and name not in _NOT_CLEARED)


def _settings(config: Mapping[str, Any]) -> Mapping[str, Any]:
    settings = config.get("config") or {}
    if not isinstance(settings, dict):
        raise ScarError("the image's configuration: `config` is not an object")
    return settings


def _strings(settings: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = settings.get(key) or ()
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise ScarError(f"the image's configuration: {key} is not a list of strings")
    return tuple(value)


def _string(settings: Mapping[str, Any], key: str) -> str:
    value = settings.get(key) or ""
    if not isinstance(value, str):
        raise ScarError(f"the image's configuration: {key} is not a string")
    return value


def _descriptor(descriptor: oci.Descriptor, media_type: str) -> Mapping[str, Any]:
    return {"mediaType": media_type, "size": descriptor.size, "digest": descriptor.digest}


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
