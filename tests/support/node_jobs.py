"""Multi-node parallel jobs as Batch describes them: the job without a container, and beside it each node that was started."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from faassupervisor.contract import TASK
from tests.support.runs_edge import UNFINISHED, World, now_ms


def gang(
    world: World,
    function: str,
    count: int,
    status: str = "RUNNING",
    *,
    main: int = 0,
    started: Iterable[int] | None = None,
    codes: Mapping[int, int] | None = None,
    merged: bool = True,
    **more: Any,
) -> str:
    """A job of `count` nodes, of which those `started` are known to Batch (all unless told); answers its id.

    `codes`: how nodes have ended, in a finished job 0 for those not named. `merged`: the job itself tells what it was submitted with, which
    is not promised; a node always does.
    """
    waits = status in {"SUBMITTED", "PENDING", "RUNNABLE"}
    one = world.job(function, status, **more)
    job = world.jobs[one]
    container = job.pop("container")
    plain = {**container, "environment": []}
    ended = {} if status in UNFINISHED else dict.fromkeys(range(count), 0)
    ended |= codes or {}
    job["nodeProperties"] = {
        "numNodes": count,
        "mainNode": main,
        "nodeRangeProperties": [
            {"targetNodes": f"0:{count - 1}", "container": {**plain, "image": "registry.example/worker"}},
            {"targetNodes": f"{main}:{main}", "container": container if merged else plain},
        ],
    }
    for index in range(count) if started is None and not waits else started or ():
        node = world.jobs[f"{one}#{index}"] = copy.deepcopy(job)
        del node["nodeProperties"]
        image = "registry.example/it" if index == main else "registry.example/worker"
        node |= {
            "jobId": f"{one}#{index}",
            "nodeDetails": {"nodeIndex": index, "isMainNode": index == main},
            "container": {
                **(container if index == main else plain),
                "image": image,
                "logStreamName": stream(function, index),
                "networkInterfaces": [],
            },
        }
        if index in ended:
            end_node(world, one, index, ended[index])
    if status not in UNFINISHED and f"{one}#{main}" in world.jobs:
        end_gang(world, one, ended[main])
        job["status"] = status
    return one


def stream(function: str, index: int) -> str:
    return f"{function}/default/node{index}"


def end_node(world: World, job_id: str, index: int, exit_code: int) -> None:
    """Batch tells the address with the attempt that has ended."""
    node = world.jobs[f"{job_id}#{index}"]
    node |= {"status": "FAILED" if exit_code else "SUCCEEDED", "stoppedAt": now_ms()}
    node["statusReason"] = "Essential container in task exited"
    node["container"]["exitCode"] = exit_code
    attempt = {"logStreamName": node["container"]["logStreamName"], "exitCode": exit_code}
    node["attempts"] = [
        {"container": {**attempt, "networkInterfaces": [{"privateIpv4Address": f"10.0.0.{10 + index}"}]}}
    ]


def end_gang(world: World, job_id: str, exit_code: int) -> None:
    """The main node has ended, and with it the job."""
    job = world.jobs[job_id]
    main = job["nodeProperties"]["mainNode"]
    end_node(world, job_id, main, exit_code)
    attempt = copy.deepcopy(world.jobs[f"{job_id}#{main}"]["attempts"][-1])
    attempt["container"]["networkInterfaces"] = []
    job |= {"status": "FAILED" if exit_code else "SUCCEEDED", "stoppedAt": now_ms(), "attempts": [attempt]}
    job["statusReason"] = "Essential container in task exited"


def has_no_task(raw: Mapping[str, Any]) -> bool:
    return all(
        variable["name"] != TASK
        for one in raw["nodeProperties"]["nodeRangeProperties"]
        for variable in one["container"]["environment"]
    )
