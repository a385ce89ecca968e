"""`scar plan` of a function whose runs may be jobs: every line of it, and how much fits where."""

from __future__ import annotations

import json
import re

from tests.e2e.conftest import Local

DEFINITION = {
    "lambda": {"name": "planned", "execution_mode": "lambda-batch", "container": {"image": "scratch"}},
    "batch": {"vcpus": 2, "memory": 4096, "compute_resources": {"type": "SPOT", "min_v_cpus": 2, "max_v_cpus": 4}},
}
PLAN = """\
account 123456789012, region us-east-1
planned: 16 to create
  + log group /aws/lambda/planned
  + repository scar/planned
  + state bucket scar-state-123456789012-us-east-1  (what is planned's in it)
  + role scar-planned-us-east-1
  + role scar-planned.job-us-east-1  (for jobs)
  + role scar-planned.ecs-us-east-1  (for ECS: pulls the jobs' image and writes their log)
  + log group /aws/batch/job/planned
  + image scar/planned@sha256:…  (… MB)
  + role scar-planned.ec2-us-east-1  (for the machines that run jobs)
  + instance profile scar-planned.ec2-us-east-1  (by which the machines come by their role)
  + job definition scar-planned-…  (2 vCPUs, 4096 MiB, at most 86400 s)
  + compute environment scar-planned  (SPOT (default_x86_64), up to 4 vCPUs; 2 vCPUs are kept and paid for, jobs or not; subnets and \
security group of the default VPC vpc-…)
  + job queue scar-planned  (waits for compute environment scar-planned; a job that finds no room for 86400 s is cancelled)
  + function planned
  + failure rule scar-planned.failures  (what Lambda gives up on comes back, to be handed over)
  + invoke config planned  (what Lambda gives up on is told to EventBridge)
  role scar-planned-us-east-1 may:
    …
  role scar-planned.job-us-east-1 may:
    …
  role scar-planned.ecs-us-east-1 may:
    …
  role scar-planned.ec2-us-east-1 may:
    …

HOP                         LIMIT    KEPT  TAKEN  LEFT     LARGER
synchronous invocation      6291456  -     -      6291456  by reference
asynchronous invocation     1048576  -     -      1048576  by reference
Lambda environment          4096     -     141    3955     refused
job definition              24576    -     …        …        refused
SubmitJob                   30720    -     418    30302    by reference
ECS overrides (characters)  8192     2048  254    5890     by reference
In bytes. Kept: for what AWS adds. Taken: with an event of nothing.
By reference: through SCAR's own private bucket.

"""


def steady(text: str) -> str:
    """What differs from one machine or release to the next, as `…`."""
    text = re.sub(r"(?m)(^ {4}\S.*\n)+", "    …\n", text)  # what each role may do: test_policies has it
    text = re.sub(r"sha256:[0-9a-f]+", "sha256:…", text)
    text = re.sub(r"\d+\.\d MB", "… MB", text)
    text = re.sub(r"(24576 +- +)\d+ +\d+ +", r"\1…        …        ", text)  # the release's number is among the tags
    return re.sub(r"(vpc-|definition scar-planned-)[0-9a-f]+", r"\1…", text)


def unwrapped(text: str) -> str:
    """Lines that were broken to fit, in one."""
    return re.sub(r"(?<=\S)\n {6,}(?=\S)", " ", text)


def test_a_plan_tells_what_is_made_what_it_costs_while_nothing_runs_and_what_fits(local: Local) -> None:
    """T1-17, T1-06: the numbers, and where subnets are taken from."""
    (local.folder / "planned.yaml").write_text(json.dumps({"functions": {"aws": [DEFINITION]}}))
    told = local.must("plan", "-f", "planned.yaml", "--sizes").out
    assert steady(unwrapped(told)) == PLAN
    assert max(map(len, told.splitlines())) <= 80


def test_what_functions_share_is_shown_where_it_is_made_and_the_numbers_are_there_for_programs(local: Local) -> None:
    """T1-17"""
    names = ("sharing", "too")
    functions = [
        {
            "lambda": {"name": name, "execution_mode": "batch", "container": {"image": "scratch"}},
            "batch": {"shared": "lab"},
        }
        for name in names
    ]
    (local.folder / "sharing.yaml").write_text(json.dumps({"functions": {"aws": functions}}))
    document = local.must("plan", "-f", "sharing.yaml", "--sizes", "-o", "json").json
    made = {name: {step["name"] for step in document["steps"] if step["function"] == name} for name in names}
    common = {"scar-shared-lab", "scar-shared-lab.ec2-us-east-1"}
    assert common <= made["sharing"]
    assert not common & made["too"]
    assert "too in scar-shared-lab" in made["too"]
    sizes = document["sizes"][0]
    assert [each["function"] for each in document["sizes"]] == list(names)
    assert [(hop["hop"], hop["limit"], hop["larger"]) for hop in sizes["hops"]] == [
        ("synchronous invocation", 6 << 20, "by reference"),
        ("asynchronous invocation", 1 << 20, "by reference"),
        ("Lambda environment", 4096, "refused"),
        ("job definition", 24 << 10, "refused"),
        ("SubmitJob", 30 << 10, "by reference"),
        ("ECS overrides", 8192, "by reference"),
    ]
    assert all(hop["source"] for hop in sizes["hops"])


def gang(local: Local, name: str, **machines: object) -> str:
    """The path of a definition whose jobs have three nodes."""
    nodes = {"vcpus": 2, "memory": 2048, "multi_node_parallel": {"enabled": True, "number_nodes": 3}}
    function = {
        "lambda": {"name": name, "execution_mode": "batch", "container": {"image": "scratch"}},
        "batch": {**nodes, "compute_resources": machines},
    }
    (local.folder / f"{name}.yaml").write_text(json.dumps({"functions": {"aws": [function]}}))
    return f"{name}.yaml"


def test_a_plan_tells_of_nodes_and_warns_of_subnets_from_which_they_reach_nothing(local: Local) -> None:
    path = gang(local, "ganging")
    plan = local.must("plan", "-f", path, "-o", "json")
    (warning,) = plan.json["warnings"]
    assert warning["function"] == "ganging"
    assert "public: on AWS the network interface of a node gets no public address" in warning["what"]
    assert f"warning: ganging: {warning['what']}" in plan.err
    told = unwrapped(local.must("plan", "-f", path).out)
    assert "(3 nodes of 2 vCPUs, 2048 MiB, main node 0, at most 86400 s)" in told
    assert "up to 6 vCPUs" in told


def test_a_cluster_of_machines_in_the_zones_of_the_default_vpc_is_refused(local: Local) -> None:
    """T1-22"""
    refused = local.scar("plan", "-f", gang(local, "apart", placement_group="close"))
    assert refused.code == 2
    assert "placement_group: a cluster placement group is in a single Availability Zone" in refused.err
    assert "AWS Batch user guide, mnp-ce" in refused.err
