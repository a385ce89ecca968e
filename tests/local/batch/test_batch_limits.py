"""What AWS Batch refuses, the local Batch refuses too, with its words, and nothing of the request is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from control_bench import (
    ACCOUNT,
    EC2,
    FARGATE,
    ON_EC2,
    ON_FARGATE,
    REGION,
    REQUESTS,
    Bench,
    Refused,
    changed,
    queue_of,
)

from scar.local.batch.containers import FARGATE_MEMORY_MIB

CASES = yaml.safe_load((Path(__file__).parents[2] / "cases" / "batch" / "refusals.yaml").read_text())
ROWS = [
    pytest.param(base, {k: v for k, v in row.items() if k != "says"}, row["says"], id=f"{base}: {next(iter(row))} {n}")
    for base, rows in CASES.items()
    for n, row in enumerate(rows)
]


@pytest.fixture
def batch(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path)
    bench("CreateComputeEnvironment", EC2)
    return bench


@pytest.mark.parametrize(("base", "changes", "says"), ROWS)
def test_what_aws_refuses_is_refused_with_its_words_and_not_kept(batch, base, changes, says):
    """LO9"""
    operation, request = REQUESTS[base]
    if operation == "CreateComputeEnvironment":
        request = request | {"computeEnvironmentName": "second"}
    with pytest.raises(Refused) as refused:
        batch(operation, changed(request, changes))
    assert says in str(refused.value)
    assert (refused.value.status, refused.value.code in ("ClientException", "SerializationException")) == (400, True)
    kept = batch.restarted().batch.status()
    assert kept == {"compute_environments": 1, "job_queues": 0, "job_definitions": 0}


@pytest.mark.parametrize("base", REQUESTS)
def test_the_requests_that_the_refused_ones_differ_from_are_taken(tmp_path, base):
    bench = Bench(tmp_path)
    operation, request = REQUESTS[base]
    if operation == "CreateJobQueue":
        bench("CreateComputeEnvironment", EC2)
    assert bench(operation, request)


@pytest.mark.parametrize("vcpus", FARGATE_MEMORY_MIB)
def test_fargate_takes_its_pairs_of_vcpus_and_memory_and_none_beside_them(batch, vcpus):
    sizes = list(FARGATE_MEMORY_MIB[vcpus])
    for memory_mib in (sizes[0], sizes[-1]):
        batch("RegisterJobDefinition", _of(vcpus, memory_mib))
    for memory_mib in (sizes[0] - 256, sizes[0] + 1, sizes[-1] + 1024):
        with pytest.raises(Refused, match=rf"\({vcpus:.2f} vCPU, {memory_mib} MiB\) not valid"):
            batch("RegisterJobDefinition", _of(vcpus, memory_mib))


def _of(vcpus: float, memory_mib: int) -> dict[str, Any]:
    amounts = [{"type": "VCPU", "value": f"{vcpus:g}"}, {"type": "MEMORY", "value": str(memory_mib)}]
    return changed(ON_FARGATE, {"containerProperties.resourceRequirements": amounts})


def test_a_definition_may_have_24_kib_as_sent_and_not_a_byte_more(batch):  # BA1
    def of(size: int) -> bytes:
        padding = size - len(json.dumps(changed(ON_EC2, {"parameters": {"p": ""}})))
        content = json.dumps(changed(ON_EC2, {"parameters": {"p": "x" * padding}})).encode()
        assert len(content) == size
        return content

    assert batch.batch.handle(ACCOUNT, REGION, "registerjobdefinition", of(24 * 1024))[0] == 200
    status, refused = batch.batch.handle(ACCOUNT, REGION, "registerjobdefinition", of(24 * 1024 + 1))
    assert (status, refused["__type"]) == (400, "ClientException")
    assert "Job definition size must be less than 24 KiB, got 25 KiB" in refused["message"]


def test_two_environments_of_a_queue_must_be_of_one_family_and_one_architecture(tmp_path):
    batch = Bench(tmp_path)
    graviton = changed(EC2, {"computeResources.instanceTypes": ["m7g.large"]})
    for name, request in {"x86": EC2, "arm": graviton, "fargate": FARGATE, "other": EC2}.items():
        batch("CreateComputeEnvironment", request | {"computeEnvironmentName": name})
    batch("CreateJobQueue", queue_of("x86", "other"))
    with pytest.raises(Refused, match="Fargate and EC2 compute environments can not be mixed"):
        batch("CreateJobQueue", queue_of("x86", "fargate") | {"jobQueueName": "mixed"})
    with pytest.raises(Refused, match="different architectures"):
        batch(
            "UpdateJobQueue", jobQueue="line", computeEnvironmentOrder=queue_of("x86", "arm")["computeEnvironmentOrder"]
        )
    queue = batch.queue()
    assert queue is not None and [
        one["computeEnvironment"].rpartition("/")[2] for one in queue["computeEnvironmentOrder"]
    ] == ["x86", "other"]


@pytest.mark.parametrize("types", [["g5g.xlarge"], ["a1"], ["c7gn"], ["r8gd.large", "m6g"], ["default_arm64"]])
def test_graviton_machines_are_told_from_others_by_their_family(batch, types):
    graviton = changed(EC2, {"computeResources.instanceTypes": types})
    batch("CreateComputeEnvironment", graviton | {"computeEnvironmentName": "arm"})
    for other in ("g4dn.xlarge", "g6", "gr6.4xlarge", "p4d"):
        mixed = changed(EC2, {"computeResources.instanceTypes": [*types, other]})
        with pytest.raises(Refused, match="arm-based"):
            batch("CreateComputeEnvironment", mixed | {"computeEnvironmentName": "mixed"})


@pytest.mark.parametrize("content", [b"{", b"[]", b'"text"', b"[" * 100_000, b"\xff"])
def test_a_body_that_is_no_json_object_is_refused(batch, content):
    status, answer = batch.batch.handle(ACCOUNT, REGION, "createjobqueue", content)
    assert (status, answer["__type"]) == (400, "SerializationException")


def leaves(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The ways to everything inside a document."""
    inside = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [way for key, value in inside for way in [(*path, key), *leaves(value, (*path, key))]]


ODD = [
    None,
    True,
    0,
    -1,
    2**31,
    1.5,
    float("nan"),
    "",
    "x",
    "1",
    "²",
    "1e3",
    "a:1",
    "arn:aws:batch:",
    "\ud800",
    "x" * 9000,
    [],
    [None],
    [[]],
    {},
    {"": ""},
]
UPDATES = {
    "change of an environment": (
        "UpdateComputeEnvironment",
        {
            "computeEnvironment": "place",
            "state": "ENABLED",
            "computeResources": EC2["computeResources"],
            "updatePolicy": {},
        },
    ),
    "change of a queue": ("UpdateJobQueue", queue_of("place") | {"jobQueue": "line"}),
    "end of a definition": ("DeregisterJobDefinition", {"jobDefinition": "job:1"}),
    "tags": (
        "TagResource",
        {"resourceArn": "arn:aws:batch:eu-west-1:123456789012:job-definition/job:1", "tags": {"a": "b"}},
    ),
    "a look": ("DescribeJobDefinitions", {"jobDefinitions": ["job:1"], "maxResults": 5, "nextToken": "am9i"}),
}


@pytest.mark.parametrize("base", [*REQUESTS, *UPDATES])
def test_whatever_stands_in_the_place_of_a_member_is_taken_or_refused_and_read_back(tmp_path, base):
    operation, request = (REQUESTS | UPDATES)[base]
    batch = Bench(tmp_path)
    batch.make()
    batch("RegisterJobDefinition", ON_EC2)
    request = request | {name: "odd" for name in ("computeEnvironmentName", "jobQueueName") if name in request}
    seen = set()
    for way in leaves(request):
        for odd in ODD:
            document = json.loads(json.dumps(request))
            inside = document
            for step in way[:-1]:
                inside = inside[step]
            inside[way[-1]] = odd
            status, answer = batch.batch.handle(ACCOUNT, REGION, operation.lower(), json.dumps(document).encode())
            assert status in (200, 400, 404), (document, answer)
            seen.add(status)
    assert 400 in seen
    assert batch.restarted().batch.status() == batch.batch.status()


def test_an_operation_that_there_is_not_and_one_that_is_not_here_are_told_apart(batch):
    with pytest.raises(Refused) as unknown:
        batch("MakeCoffee")
    assert (unknown.value.status, unknown.value.code) == (404, "UnknownOperationException")
    with pytest.raises(Refused, match="has no CreateServiceEnvironment"):
        batch(
            "CreateServiceEnvironment",
            serviceEnvironmentName="a",
            serviceEnvironmentType="SAGEMAKER_TRAINING",
            capacityLimits=[],
        )
