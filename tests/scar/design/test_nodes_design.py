"""A function whose jobs have several nodes becomes resources: what each node is told and given, and which of them gets the task."""

from __future__ import annotations

import json
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator

from faassupervisor import contract, delegate, hops
from faassupervisor.contract import Gang, Task
from scar.aws import tags
from scar.aws.resources.compute_environment import ComputeEnvironment
from scar.aws.resources.function import LambdaFunction
from scar.aws.resources.job_definition import JobDefinition
from scar.aws.resources.job_queue import JobQueue
from scar.aws.resources.machines import Machines
from scar.aws.resources.repository import ImageVersion, Repository, image_tag
from scar.design import WithNodeImages, ZipAndJobImage
from scar.design.sizes import sizes
from scar.errors import UsageError
from scar.fdl.model import Function
from scar.plan.diff import ordered
from tests.scar.design.test_jobs_design import GOLDEN, fn, made, one, plain, request
from tests.support.account import FakeImage, FakeZip

HETEROGENEOUS = {
    "vcpus": 2,
    "memory": 4096,
    "environment": {"Variables": {"LEVEL": "high"}},
    "multi_node_parallel": {
        "enabled": True,
        "number_nodes": 8,
        "main_node_index": 2,
        "start_timeout": 90,
        "input_on_workers": True,
        "node_ranges": [
            {"nodes": 2, "vcpus": 8, "memory": 16384},
            {"nodes": "6:", "image": "ubuntu:24.04", "slots": 0},
        ],
    },
    "compute_resources": {"placement_group": "close"},
}
IMAGES = WithNodeImages(FakeImage(), {"ubuntu:24.04": FakeImage("of the workers")})


def gang(nodes: int, **more: Any) -> Function:
    return fn({"vcpus": 2, "memory": 2048, "multi_node_parallel": {"enabled": True, "number_nodes": nodes, **more}})


def node_ranges(resources: Any) -> dict[str, Any]:
    return {
        each["targetNodes"]: each["container"] for each in request(resources)["nodeProperties"]["nodeRangeProperties"]
    }


def told(container: Any) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container["environment"]}


def test_the_definition_and_the_machines_of_a_gang_are_the_golden_ones() -> None:
    """T1-19, T1-20: every key of the section reaches the field that it is for."""
    resources = made(fn(HETEROGENEOUS), image=IMAGES)
    found = [plain(item) for item in ordered(resources) if isinstance(item, (JobDefinition, ComputeEnvironment))]
    text = json.dumps(found, indent=1) + "\n"
    assert text == (GOLDEN / "jobs_nodes.json").read_text(), text


def test_each_range_tells_its_nodes_what_jobs_are_told_and_its_own_slots() -> None:
    """T1-20, MP14"""
    ranges = node_ranges(made(fn(HETEROGENEOUS), image=IMAGES))
    assert list(ranges) == ["0:1", "2:2", "3:5", "6:7"]
    common = {"LEVEL": "high", "AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-1"}
    state = {contract.STATE: "s3://scar-state-123456789012-eu-west-1/functions/grayify/"}
    slots = {}
    for target, container in ranges.items():
        variables = told(container)
        slots[target] = Gang.from_json(variables.pop(contract.GANG))
        assert variables == {**common, **state}
    assert slots == {
        "0:1": Gang(2, 90, input_on_workers=True),
        "2:2": Gang(8, 90, input_on_workers=True),
        "3:5": Gang(2, 90, input_on_workers=True),
        "6:7": Gang(0, 90, input_on_workers=True),
    }


def test_nodes_run_the_image_that_is_said_of_them_and_all_others_the_functions() -> None:
    resources = made(fn(HETEROGENEOUS), image=IMAGES)
    own, other = (f":{image_tag(FakeImage(content).digest)}" for content in ("1", "of the workers"))
    images = {target: container["image"] for target, container in node_ranges(resources).items()}
    assert [images[target].endswith(own) for target in images] == [True, True, True, False]
    assert images["6:7"].endswith(other)
    pushed = {item.digest for item in resources if isinstance(item, ImageVersion)}
    assert pushed == {FakeImage().digest, FakeImage("of the workers").digest}
    needed = one(JobDefinition, resources).needs
    assert {item.id for item in resources if isinstance(item, ImageVersion)} <= set(needed)


def test_images_that_a_definition_names_do_not_grow_too_old() -> None:
    rules = json.loads(one(Repository, made(fn(HETEROGENEOUS), image=IMAGES)).lifecycle)["rules"]
    staying = [rule["selection"] for rule in rules[:-1]]
    wanted = {image_tag(FakeImage(content).digest) for content in ("1", "of the workers")}
    assert {tag for rule in staying for tag in rule["tagPrefixList"]} == wanted
    assert all(rule["countNumber"] == 1 and len(rule["tagPrefixList"]) == 1 for rule in staying)
    assert [rule["rulePriority"] for rule in rules] == [1, 2, 3]
    assert rules[-1]["selection"]["tagStatus"] == "any"
    alone = json.loads(one(Repository, made(gang(2))).lifecycle)["rules"]
    assert len(alone) == 1


def test_a_zip_functions_gang_has_its_images_in_the_repository_beside_it() -> None:
    images = WithNodeImages(ZipAndJobImage(FakeZip(), FakeImage()), IMAGES.nodes)
    resources = made(fn(HETEROGENEOUS, runtime="python3.13"), image=images)
    assert len([item for item in resources if isinstance(item, ImageVersion)]) == 2
    assert len(set(map(str, (container["image"] for container in node_ranges(resources).values())))) == 2


def test_two_names_of_one_image_are_one_image() -> None:
    images = WithNodeImages(FakeImage(), {"ubuntu:24.04": FakeImage()})
    resources = made(fn(HETEROGENEOUS), image=images)
    assert len([item for item in resources if isinstance(item, ImageVersion)]) == 1


@pytest.mark.parametrize(("nodes", "main"), [(1, 0), (2, 1), (3, 0), (1000, 999)])
def test_the_task_goes_to_a_range_that_holds_the_main_node_alone(nodes: int, main: int) -> None:
    """T1-20, MP13: Batch takes an override for a range only, and the other nodes ask the ledger nothing."""
    resources = made(gang(nodes, main_node_index=main))
    target = dict(one(LambdaFunction, resources).environment)[contract.JOB_NODES]
    assert target == f"{main}:{main}"
    assert target in node_ranges(resources)
    properties = request(resources)["nodeProperties"]
    assert (properties["numNodes"], properties["mainNode"]) == (nodes, main)


def test_a_function_without_gangs_is_told_of_no_node() -> None:
    environment = dict(one(LambdaFunction, made(fn({"multi_node_parallel": {"number_nodes": 3}}))).environment)
    assert contract.JOB_NODES not in environment
    assert request(made(fn()))["type"] == "container"


@pytest.mark.parametrize(("memory", "shared"), [(64, 64), (1024, 512), (16_385, 8192)])
def test_processes_of_one_node_share_half_of_its_memory(memory: int, shared: int) -> None:
    """With the 64 MiB of a container that says nothing, MPI's messages within a node end in SIGBUS."""
    resources = made(fn({"memory": memory, "multi_node_parallel": {"enabled": True, "number_nodes": 2}}))
    assert {each["linuxParameters"]["sharedMemorySize"] for each in node_ranges(resources).values()} == {shared}


def test_every_node_gets_a_gpu_where_jobs_do() -> None:
    more = {"enable_gpu": True, "compute_resources": {"instance_types": ["g5.xlarge"]}}
    resources = made(fn({**more, "multi_node_parallel": {"enabled": True, "number_nodes": 2}}))
    for container in node_ranges(resources).values():
        assert {"type": "GPU", "value": "1"} in container["resourceRequirements"]


@pytest.mark.parametrize(("timeout", "waits"), [(60, 45), (615, 600), (3600, 600)])
def test_the_main_node_says_who_is_missing_before_the_job_is_out_of_time(timeout: int, waits: int) -> None:
    """MP2, MP3"""
    resources = made(fn({"timeout": timeout, "multi_node_parallel": {"enabled": True, "number_nodes": 2}}))
    told_ = {Gang.from_json(told(each)[contract.GANG]).start_timeout_s for each in node_ranges(resources).values()}
    assert told_ == {waits}


@pytest.mark.parametrize("function", [gang(1), gang(1000), fn(HETEROGENEOUS)], ids=["one", "thousand", "different"])
def test_batch_would_take_what_is_asked_for(function: Function) -> None:
    """As far as botocore knows: names and types of all members."""
    resources = made(function, image=IMAGES)
    asked = {"jobDefinitionName": one(JobDefinition, resources).name, **request(resources)}
    shape = botocore.session.get_session().get_service_model("batch").shape_for("RegisterJobDefinitionRequest")
    problems = ParamValidator().validate(asked, shape)
    assert not problems.has_errors(), problems.generate_report()


def test_the_plan_tells_how_many_nodes_there_are_and_how_large() -> None:
    note = one(JobDefinition, made(gang(3, main_node_index=1))).note
    assert note == "3 nodes of 2 vCPUs, 2048 MiB, main node 1, at most 86400 s"
    note = one(JobDefinition, made(fn(HETEROGENEOUS), image=IMAGES)).note
    assert note == "7 nodes of 2 vCPUs, 4096 MiB and 1 node of 8 vCPUs, 16384 MiB, main node 2, at most 86400 s"
    environment = one(ComputeEnvironment, made(fn(HETEROGENEOUS), image=IMAGES)).note
    assert "up to 128 vCPUs" in environment
    assert "in placement group close" in environment


def test_variables_count_once_for_each_range_of_nodes() -> None:
    large = {"environment": {"Variables": {"LONG": "x" * 5000}}}
    some = {"enabled": True, "number_nodes": 9, "main_node_index": 4}
    found = made(fn({**large, "multi_node_parallel": some}))
    taken = {size.hop: size.taken for size in sizes(fn(), found)}[hops.JOB_DEFINITION]
    assert taken is not None
    assert taken > 15_000
    with pytest.raises(UsageError, match="job definition: the request has"):
        made(fn({"environment": {"Variables": {"LONG": "x" * 7500}}, "multi_node_parallel": some}))


def test_what_a_plan_says_of_the_way_of_an_event_is_what_is_sent() -> None:
    """The hand-over of an event of nothing, counted by the agent itself."""
    function = gang(3, main_node_index=2)
    resources = made(function)
    taken = {size.hop: size.taken for size in sizes(function, resources)}
    client: Any = None
    target = dict(one(LambdaFunction, resources).environment)[contract.JOB_NODES]
    batch = delegate.Batch(client, one(JobQueue, resources).name, one(JobDefinition, resources).name, main_node=target)
    task = Task("grayify", "0" * 8 + "-0000-0000-0000-" + "0" * 12, "0" * 64, 1, event="{}")
    sent = batch.request(task, contract.job_name("grayify", "0" * 64, 1))
    assert taken[hops.SUBMIT_JOB] == hops.sent_bytes(sent)
    (override,) = sent["nodeOverrides"]["nodePropertyOverrides"]
    assert taken[hops.ECS_OVERRIDES] == hops.characters(override["containerOverrides"])


def test_a_definition_bears_its_functions_tags() -> None:
    assert dict(one(JobDefinition, made(gang(2))).tags)[tags.FUNCTION] == "grayify"


def test_a_placement_group_is_given_changed_and_taken_away() -> None:
    """Each is an infrastructure update: running machines are replaced (Batch user guide, updating-compute-environments)."""
    with_one = one(ComputeEnvironment, made(fn(HETEROGENEOUS), image=IMAGES)).resources
    without = one(ComputeEnvironment, made(fn({**HETEROGENEOUS, "compute_resources": {}}), image=IMAGES)).resources
    assert with_one.request()["placementGroup"] == "close"
    assert "placementGroup" not in without.request()
    assert Machines.of(with_one.request(), with_one) == with_one
    assert Machines.of(without.request(), with_one) == without
    assert with_one.update_of(without) == {"placementGroup": "close"}
    assert without.update_of(with_one) == {"placementGroup": ""}
    assert with_one.replaces(without)
