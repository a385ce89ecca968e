"""May an image that somebody has put into ECR be run as it is? `container.create_image: false`: looked at, never changed.

How a deployment uses it, before anything is made:

    from scar.package.prepared import prepared_image
    image = prepared_image(fn, aws)       # reads only; raises ScarError with what to do
    image.uri_by_digest                   # Lambda's ImageUri; there is no repository of ours and nothing to push or to remove
    image.warnings                        # lines for the user, such as that SCAR's agent is not in it
"""

from __future__ import annotations

import dataclasses
import io
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from faassupervisor import contract
from scar.aws.names import repository as repository_of
from scar.errors import ConflictError, NotFoundError, ScarError, UsageError
from scar.limits import SCRIPT_BYTES
from scar.package import oci
from scar.package.compress import gunzip
from scar.package.derive import MAX_CONFIG_BYTES
from scar.package.ecr import EcrHost, absence_explained, ecr_host, ecr_keychain, host_of
from scar.package.registry import Manifest, Registry, reference
from scar.package.registry.network import network_here
from scar.package.source.resolve import check_sizes, descriptor_of, parse, small_blob
from scar.package.source.transports import named
from scar.package.spec import spec_of

if TYPE_CHECKING:
    from scar.aws.clients import Aws
    from scar.fdl.model import Function

# docs.aws.amazon.com/lambda/latest/dg/images-create.html: one platform, gzip layers, Docker schema 2 or OCI
_MANIFESTS: Final = (oci.DOCKER_MANIFEST, oci.OCI_MANIFEST)
_INDEXES: Final = (oci.OCI_INDEX, oci.DOCKER_LIST)
_CONFIGS: Final = (oci.DOCKER_CONFIG, oci.OCI_CONFIG)
_LAYERS: Final = (oci.DOCKER_LAYER_GZIP, oci.OCI_LAYER_GZIP)
_FUNCTION_LAYER_BYTES: Final = SCRIPT_BYTES + (4 << 20)
_PUSH_AGAIN: Final = (
    "Make it again from its base image: `scar image push -f FILE --to {where}`, where FILE names that image and has no `create_image`; "
    "or name the base image here and remove `create_image`."
)


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """An image that Lambda will take. `size` is that of its compressed layers in bytes.

    `has_agent` is False for an image that answers Lambda by itself: what the definition says of scripts, inputs and outputs is nothing to it.
    """

    uri_by_digest: str
    digest: str
    size: int
    has_agent: bool
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Place:
    """One image of a registry, by the name that the user gave it."""

    registry: Registry
    name: reference.Reference
    where: str


def prepared_image(fn: Function, aws: Aws) -> PreparedImage:
    """The image that `container.image` names, when it can be run as it is.

    Raises UsageError when it is not in a private repository of this region, NotFoundError when it is not there, and ScarError when
    Lambda would not run it or when it was made for another definition.
    """
    name = _name(fn, aws)
    where = str(name)
    credentials = ecr_keychain(aws)(name.host)
    endpoint = credentials.endpoint if credentials else None
    place = _Place(Registry(name.host, credentials, endpoint=endpoint, network=network_here()), name, where)
    with absence_explained(aws, where):
        manifest = _manifest(place)
    document = parse(manifest.content, where)
    _check_kind(document, manifest.media_type, fn.lambda_.architecture, name)
    layers = _layers(document, where)
    config = _config(place, document)
    _check_platform(config, fn.lambda_.architecture, where)
    has_agent = _check_entry_point(config, where)
    warnings: tuple[str, ...] = ()
    if has_agent:
        _check_definition(place, layers[-1], fn)
        if (ecr_host(name.host), name.repository) == (EcrHost(aws.account, aws.region), repository_of(fn.name)):
            warnings = (
                f"{where} lies in the repository that SCAR keeps for {fn.name}, and goes with it when the function is removed. "
                "Push it elsewhere (`scar image push --to REFERENCE`) if it has to stay.",
            )
    else:
        warnings = (
            f"{where}: SCAR's agent is not in this image, so it has to answer Lambda by itself; "
            "`init_script`, `input` and `output` of the definition are left to what is in it.",
        )
    return PreparedImage(
        uri_by_digest=f"{name.host}/{name.repository}@{manifest.digest}",
        digest=manifest.digest,
        size=sum(layer.size for layer in layers),
        has_agent=has_agent,
        warnings=warnings,
    )


def _manifest(place: _Place) -> Manifest:
    try:
        return place.registry.manifest(place.name.repository, place.name.tag_or_digest)
    except NotFoundError as error:
        raise NotFoundError(
            "ECR has no such image",
            where=place.where,
            fix=f"Push it first, for example with `scar image push -f FILE --to {place.where}`.",
        ) from error


def _name(fn: Function, aws: Aws) -> reference.Reference:
    container = fn.lambda_.container
    source = named(container.image, Path()) if container.image else None
    if source is None or source.kind != "registry":
        raise UsageError(
            "`create_image: false` needs an image that is in ECR",
            where=fn.name,
            fix="Push it with `scar image push -f FILE --to REFERENCE` and name it in `image`, or remove `create_image`.",
        )
    name = reference.parse(source.name)
    ecr = ecr_host(name.host)
    if ecr is None:
        raise UsageError(
            "Lambda runs images of private ECR repositories only",
            where=source.name,
            fix=f"Copy it to {host_of(aws)}, or remove `create_image`: SCAR then makes the image that Lambda takes.",
        )
    _check_region(ecr, aws, source.name)
    return name


def _check_region(ecr: EcrHost, aws: Aws, where: str) -> None:
    if ecr.region != aws.region:
        raise UsageError(
            f"the image is in {ecr.region}, the function is made in {aws.region}, and Lambda takes images of its own region only",
            where=where,
            fix="Copy the image to a repository of that region, or make the function where the image is.",
        )


def _check_kind(document: Mapping[str, Any], media_type: str, architecture: str, name: reference.Reference) -> None:
    kind = str(document.get("mediaType") or media_type)
    if "manifests" in document or kind in _INDEXES:
        raise UsageError(
            "this names an index of images for several platforms, and Lambda takes a single image",
            where=str(name),
            fix=_child(document, architecture, name),
        )
    if kind not in _MANIFESTS or document.get("schemaVersion") != 2:
        raise ScarError(
            f"its manifest is of the type {kind!r}; Lambda takes {' and '.join(_MANIFESTS)}",
            where=str(name),
            fix="Push the image again with a current tool.",
        )


def _child(document: Mapping[str, Any], architecture: str, name: reference.Reference) -> str:
    """What to write in place of the index: the digest of its image for the function's platform."""
    items = document.get("manifests")
    fitting, others = [], set()
    for item in items if isinstance(items, list) else ():
        platform = item.get("platform") if isinstance(item, dict) else None
        if isinstance(platform, dict) and platform.get("os") == "linux":
            if platform.get("architecture") == oci.architecture(architecture):
                fitting.append(str(item.get("digest")))
            others.add(f"linux/{platform.get('architecture')}")
    if fitting:
        return f"Name its image for {architecture}: `image: {name.host}/{name.repository}@{fitting[0]}`."
    return f"It has no image for {architecture}, only for {', '.join(sorted(others)) or 'no platform that is named'}."


def _layers(document: Mapping[str, Any], where: str) -> Sequence[oci.Descriptor]:
    items = document.get("layers")
    layers = [descriptor_of(item, where) for item in items] if isinstance(items, list) else []
    if not layers:
        raise ScarError("the image has no layers", where=where, fix="Name an image.")
    check_sizes([layer.size for layer in layers], where)
    for layer in layers:
        if layer.media_type not in _LAYERS:
            raise ScarError(
                f"a layer of the type {layer.media_type!r}; Lambda takes gzip-compressed layers only",
                where=where,
                fix="Push it with gzip layers (buildx: --output type=image,push=true,compression=gzip,force-compression=true), "
                "or set `create_image: true`: SCAR then compresses them anew.",
            )
    return layers


def _config(place: _Place, document: Mapping[str, Any]) -> Mapping[str, Any]:
    descriptor = descriptor_of(document.get("config"), place.where)
    if descriptor.media_type not in _CONFIGS:
        raise ScarError(
            f"not a container image but {descriptor.media_type!r}: an attestation or an artifact",
            where=place.where,
            fix="Name the image itself, by its tag or by its digest.",
        )
    return parse(
        small_blob(place.registry.blob(place.name.repository, descriptor), MAX_CONFIG_BYTES, place.where), place.where
    )


def _check_platform(config: Mapping[str, Any], architecture: str, where: str) -> None:
    system, processor = config.get("os"), config.get("architecture")
    if (system, processor) == ("unknown", "unknown"):
        raise ScarError("this is an attestation, not an image", where=where, fix="Name the image that it speaks of.")
    if (system, processor) != ("linux", oci.architecture(architecture)):
        raise ScarError(
            f"the image is for {system}/{processor}, the function for linux/{oci.architecture(architecture)}",
            where=where,
            fix="Name an image of that architecture, or set `architectures` to the image's own.",
        )


def _check_entry_point(config: Mapping[str, Any], where: str) -> bool:
    """Whether it is our agent. An image that starts nothing is refused."""
    settings = config.get("config")
    settings = settings if isinstance(settings, dict) else {}
    entry_point, command = settings.get("Entrypoint") or [], settings.get("Cmd") or []
    if not entry_point and not command:
        raise ScarError(
            "the image has neither ENTRYPOINT nor CMD: Lambda would have nothing to start",
            where=where,
            fix="Set `create_image: true`: SCAR then puts its agent in.",
        )
    return bool(entry_point) and str(entry_point[0]).startswith(contract.AGENT_ROOT + "/")


def _check_definition(place: _Place, layer: oci.Descriptor, fn: Function) -> None:
    """What the image was made for, against the definition: key by key."""
    files = _function_files(place, layer)
    try:
        embedded = contract.Spec.from_json(files[contract.SPEC_PATH])
    except (KeyError, contract.ContractError) as error:
        raise ScarError(
            f"the image has SCAR's agent, but no function that this release understands ({error})",
            where=place.where,
            fix=_PUSH_AGAIN.format(where=place.where),
        ) from error
    different = _differences(embedded, spec_of(fn))
    script = fn.lambda_.init_script
    if script is not None and "init_script" not in different and _script(script) != files.get(contract.SCRIPT_PATH):
        different.append("init_script")
    if different:
        raise ConflictError(
            f"the image was made for another definition: {', '.join(different)} {'differ' if len(different) > 1 else 'differs'}",
            where=place.where,
            fix=_PUSH_AGAIN.format(where=place.where),
        )


def _script(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ScarError(f"the init script cannot be read: {error.strerror}", where=str(path)) from error


# What a definition says, by the spec's names; the process of the image and the root file system are not the definition's.
_KEYS: Final[Mapping[str, str]] = {
    "name": "name",
    "mode": "execution_mode",
    "has_script": "init_script",
    "inputs": "input",
    "outputs": "output",
    "timeout_threshold_s": "container.timeout_threshold",
    "log_level": "log_level",
    "spill": "spill",
}


def _differences(embedded: contract.Spec, wanted: contract.Spec) -> list[str]:
    """The definition's keys whose values are not those in the image. Values of variables are not told: they may be secret."""
    known = {field.name for field in dataclasses.fields(contract.Spec)}
    different = [
        key for name, key in _KEYS.items() if name in known and getattr(embedded, name) != getattr(wanted, name)
    ]
    names = {**embedded.environment, **wanted.environment}
    return different + [
        f"container.environment.{name}"
        for name in sorted(names)
        if embedded.environment.get(name) != wanted.environment.get(name)
    ]


def _function_files(place: _Place, layer: oci.Descriptor) -> Mapping[str, bytes]:
    """The spec and the script in the last layer, by their paths."""
    if layer.size > _FUNCTION_LAYER_BYTES:
        return {}
    blob = place.registry.blob(place.name.repository, layer)
    content = b"".join(_at_most(gunzip(blob.open(), layer.digest), _FUNCTION_LAYER_BYTES))
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
            for member in tar:
                path = "/" + member.name.removeprefix("./").lstrip("/")
                if member.isreg() and path in (contract.SPEC_PATH, contract.SCRIPT_PATH):
                    source = tar.extractfile(member)
                    files[path] = source.read() if source else b""
    except (tarfile.TarError, zlib.error, ValueError, EOFError) as error:
        raise ScarError(
            f"its last layer is no tar archive: {error}", where=place.where, fix=_PUSH_AGAIN.format(where=place.where)
        ) from error
    return files


def _at_most(chunks: Iterator[bytes], limit: int) -> Iterator[bytes]:
    for chunk in chunks:
        limit -= len(chunk)
        if limit < 0:
            return
        yield chunk
