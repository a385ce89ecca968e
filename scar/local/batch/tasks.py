"""What a task of several containers may be (`ecsProperties`): the containers of it, and how they wait for each other.

The local Batch registers such definitions as AWS does; what runs of them is for the jobs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from scar.local.batch.checks import executing
from scar.local.batch.containers import check_container

MAX_CONTAINERS: Final = 10  # botocore batch:EcsProperties.taskProperties
_CONDITIONS: Final = ("START", "COMPLETE", "SUCCESS")  # botocore batch:TaskContainerDependency.condition
_MODES: Final = {"ipcMode": ("host", "task", "none"), "pidMode": ("host", "task")}  # botocore batch:EcsTaskProperties


def check_task(properties: Mapping[str, Any], *, fargate: bool) -> None:
    """Refuse `ecsProperties` that Batch does not register."""
    tasks = properties["taskProperties"]
    if len(tasks) != 1:
        raise executing("ecsProperties must have one task.")
    task, containers = tasks[0], tasks[0]["containers"]
    if not 1 <= len(containers) <= MAX_CONTAINERS:
        raise executing(f"A task must have between 1 and {MAX_CONTAINERS} containers.")
    for mode, allowed in _MODES.items():
        if task.get(mode, allowed[0]) not in allowed:
            raise executing(f"{mode} must be one of {', '.join(allowed)}.")
    _check_names(containers)
    if not any(_is_essential(one) for one in containers):
        raise executing("A task must have at least one essential container.")
    for container in containers:
        _check_dependencies(container, {str(one.get("name")): one for one in containers})
        # Fargate's pairs of vCPUs and memory are for the task: each container is checked with the sum.
        amounts = {"resourceRequirements": _sums(containers)} if fargate else {}
        check_container({**container, **_of_task(task), **amounts}, fargate=fargate)


def _check_names(containers: list[Mapping[str, Any]]) -> None:
    names = [one.get("name") for one in containers]
    if len(containers) > 1 and None in names:
        raise executing("Containers of a task must have a name.")
    if len(set(names)) != len(names):
        raise executing("Container names must be unique within a task.")


def _is_essential(container: Mapping[str, Any]) -> bool:
    return bool(container.get("essential", True))


def _check_dependencies(container: Mapping[str, Any], by_name: Mapping[str, Mapping[str, Any]]) -> None:
    for dependency in container.get("dependsOn") or []:
        awaited, condition = by_name.get(str(dependency.get("containerName"))), dependency.get("condition")
        if awaited is None or awaited is container:
            raise executing(f"dependsOn names no other container of the task: {dependency.get('containerName')}")
        if condition not in _CONDITIONS:
            raise executing(f"The condition of dependsOn must be one of {', '.join(_CONDITIONS)}.")
        if condition != "START" and _is_essential(awaited):
            raise executing(f"The condition {condition} can't be used with an essential container.")


def _sums(containers: list[Mapping[str, Any]]) -> list[dict[str, str]]:
    asked = [one for container in containers for one in container.get("resourceRequirements") or []]
    found: dict[str, list[str]] = {}
    for one in asked:
        found.setdefault(str(one["type"]), []).append(str(one["value"]))
    return [{"type": kind, "value": _sum(values)} for kind, values in found.items()]


def _sum(values: list[str]) -> str:
    try:
        return f"{sum(map(float, values)):g}"
    except ValueError:
        return values[0]  # refused as it is


def _of_task(task: Mapping[str, Any]) -> dict[str, Any]:
    """What a container of a single-container job says itself."""
    names = {"taskRoleArn": "jobRoleArn"} | {
        name: name
        for name in ("executionRoleArn", "volumes", "networkConfiguration", "runtimePlatform", "ephemeralStorage")
    }
    return {ours: task[theirs] for theirs, ours in names.items() if theirs in task}
