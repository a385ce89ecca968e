"""What does a job run with? A definition's properties under what its submission says otherwise. Pure: no state, no sandbox."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from faassupervisor.hops import characters

_REF: Final = re.compile(r"Ref::([A-Za-z0-9_.-]+)")
_ENVIRONMENT_NAME: Final = (
    "AWS_BATCH"  # the start of names that Batch keeps for itself; botocore batch:ContainerProperties.environment
)


def container_of(definition: Mapping[str, Any], request: Mapping[str, Any]) -> dict[str, Any]:
    """`containerProperties` with the request's `containerOverrides` merged in, as DescribeJobs shows it."""
    container = dict(definition.get("containerProperties") or {})
    overrides = request.get("containerOverrides") or {}
    if overrides.get("command"):
        container["command"] = list(overrides["command"])
    for member in ("vcpus", "memory", "instanceType"):
        if overrides.get(member):
            container[member] = overrides[member]
    container["environment"] = merged(container.get("environment"), overrides.get("environment"), key="name")
    container["resourceRequirements"] = merged(
        container.get("resourceRequirements"), overrides.get("resourceRequirements"), key="type"
    )
    return container


def merged(
    below: Sequence[Mapping[str, Any]] | None, above: Sequence[Mapping[str, Any]] | None, *, key: str
) -> list[dict[str, Any]]:
    """Both lists, and of two entries with the same `key` the one above."""
    named = {entry[key]: dict(entry) for entry in (*(below or ()), *(above or ()))}
    return list(named.values())


def requirement(container: Mapping[str, Any], kind: str) -> float | None:
    """VCPU, MEMORY (MiB) or GPU that a container asks for; None when it does not say, or not in numbers."""
    for entry in container.get("resourceRequirements") or ():
        if entry["type"] == kind:
            try:
                return float(entry["value"])
            except ValueError:
                return None
    deprecated = {"VCPU": "vcpus", "MEMORY": "memory"}.get(kind)
    value = container.get(deprecated) if deprecated else None
    return float(value) if value else None


def parameters_of(definition: Mapping[str, Any], request: Mapping[str, Any]) -> dict[str, str]:
    return {**(definition.get("parameters") or {}), **(request.get("parameters") or {})}


def resolved_command(command: Sequence[str], parameters: Mapping[str, str]) -> list[str]:
    """`Ref::name` replaced by the parameter's value; a name without a value stays as it is.

    Source: batch/latest/userguide/job_definition_parameters
    """
    return [_REF.sub(lambda found: parameters.get(found[1], found[0]), part) for part in command]


def retry_of(definition: Mapping[str, Any], request: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = request.get("retryStrategy") or definition.get("retryStrategy") or {}
    return found


def timeout_of(definition: Mapping[str, Any], request: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = request.get("timeout") or definition.get("timeout") or {}
    return found


def timeout_s_of(definition: Mapping[str, Any], request: Mapping[str, Any]) -> int | None:
    seconds = timeout_of(definition, request).get("attemptDurationSeconds")
    return int(seconds) if seconds else None


def tags_of(definition: Mapping[str, Any], request: Mapping[str, Any]) -> tuple[dict[str, str], bool]:
    """Tags of the ECS task, and whether they are wanted there at all. Job tags win."""
    propagate = request.get("propagateTags")
    wanted = definition.get("propagateTags") if propagate is None else propagate
    return {**(definition.get("tags") or {}), **(request.get("tags") or {})}, bool(wanted)


def override_characters(definition: Mapping[str, Any], request: Mapping[str, Any], added: Mapping[str, str]) -> int:
    """The characters of what Batch hands to ECS as overrides: the submission's variables, those that Batch adds, and the command wherever it is
    not the definition's own word for word."""
    overrides = request.get("containerOverrides") or {}
    command = overrides.get("command") or (definition.get("containerProperties") or {}).get("command") or []
    resolved = resolved_command(command, parameters_of(definition, request))
    variables = [*(overrides.get("environment") or ()), *({"name": n, "value": v} for n, v in added.items())]
    one: dict[str, Any] = {"name": "default", "environment": variables}
    if overrides.get("command") or resolved != list(command):
        one["command"] = resolved
    if overrides.get("resourceRequirements"):
        one["resourceRequirements"] = overrides["resourceRequirements"]
    return characters({"containerOverrides": [one]})


def reserved_names(environment: Sequence[Mapping[str, Any]] | None) -> list[str]:
    """Names of variables that a request may not set."""
    return [entry["name"] for entry in environment or () if str(entry.get("name", "")).startswith(_ENVIRONMENT_NAME)]
