"""How long does a job take that does nothing, and what does handing a run over cost?

    python benchmarks/batch.py [--quick]        results go to benchmarks/results/batch.{json,md}

Everything happens on this machine against a local AWS of its own in a temporary folder; every loop is bounded.
"""

from __future__ import annotations

import json
import shutil
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import run
from deployed import deploy, reports, until
from figures import Figure, Growth, Result
from surroundings import Bench, Size, local_aws

EMPTY = "bench-empty"
VCPUS = 4  # of the compute environment: so many empty jobs run at once


def empty_job(bench: Bench) -> Any:
    """A queue, and the definition of a job that runs one static program which ends at once."""
    from scar.aws.clients import Access, Aws
    from scar.package.ecr import ecr_registry
    from scar.package.layer import File, Link
    from scar.package.registry.push import push
    from tests.support.small_images import image_of

    busybox = Path(shutil.which("busybox") or "/bin/busybox").read_bytes()
    image = image_of([File("bin/busybox", busybox, 0o755), Link("bin/true", "busybox")])
    aws = Aws(Access("us-east-1", None, bench.environ["AWS_ENDPOINT_URL"], "local", "local"))
    address = aws.ecr.create_repository(repositoryName=EMPTY)["repository"]["repositoryUri"]
    push(image, ecr_registry(aws), EMPTY, tag="1")
    (bench.folder / "empty.oci").mkdir()
    vpc = aws.ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"][0]["VpcId"]
    of_vpc: Any = [{"Name": "vpc-id", "Values": [vpc]}]
    machines = {
        "type": "FARGATE",
        "maxvCpus": VCPUS,
        "subnets": [one["SubnetId"] for one in aws.ec2.describe_subnets(Filters=of_vpc)["Subnets"]],
        "securityGroupIds": [
            one["GroupId"] for one in aws.ec2.describe_security_groups(Filters=of_vpc)["SecurityGroups"]
        ],
    }
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
    role = aws.iam.create_role(RoleName=EMPTY, AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    batch: Any = aws.batch
    batch.create_compute_environment(computeEnvironmentName=EMPTY, type="MANAGED", computeResources=machines)
    environment = until(
        lambda: _valid(batch.describe_compute_environments(computeEnvironments=[EMPTY])["computeEnvironments"])
    )
    order = [{"order": 1, "computeEnvironment": environment["computeEnvironmentArn"]}]
    batch.create_job_queue(jobQueueName=EMPTY, priority=1, computeEnvironmentOrder=order)
    until(lambda: _valid(batch.describe_job_queues(jobQueues=[EMPTY])["jobQueues"]))
    container = {
        "image": f"{address}:1",
        "command": ["/bin/true"],
        "executionRoleArn": role,
        "resourceRequirements": [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "2048"}],
    }
    batch.register_job_definition(
        jobDefinitionName=EMPTY, type="container", platformCapabilities=["FARGATE"], containerProperties=container
    )
    return batch


def _valid(found: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    return next((one for one in found if one["status"] == "VALID"), None)


def queued(bench: Bench, growths: list[Growth]) -> list[Figure]:
    """Jobs that do nothing, submitted one after another; times of a job are the service's own (createdAt, startedAt, stoppedAt)."""
    batch = empty_job(bench)
    podman = [] if shutil.which("podman") is None else [_podman(bench)]
    figures: list[Figure] = []
    submit_one(batch)  # the image is unpacked now
    lines: dict[str, dict[float, float]] = {
        "SCAR's local AWS: all SUCCEEDED": {},
        "SCAR's local AWS: one SubmitJob": {},
    }
    for size in bench.size.sizes(1, 10, 100, 1000, quick=(1, 3)):
        started = time.perf_counter()
        ids = [batch.submit_job(jobName="empty", jobQueue=EMPTY, jobDefinition=EMPTY)["jobId"] for _ in range(size)]
        submitted = time.perf_counter() - started
        jobs = finished(batch, ids)
        whole = time.perf_counter() - started
        for line, seconds in zip(lines.values(), (whole, submitted / size), strict=True):
            line[size] = seconds
        to_running = statistics.median(job["startedAt"] - job["createdAt"] for job in jobs) / 1000
        peer = ("podman run", podman[0]) if podman and size == 1 else ("", None)
        figures += [
            Figure(f"{size} empty job{'s' * (size > 1)}: all SUCCEEDED", whole, "s", *peer),
            Figure("  submit → RUNNING, median", to_running, "s"),
            Figure("  one SubmitJob", submitted / size, "s"),
        ]
    growths.append(Growth("batch-jobs", "empty jobs", "jobs", "seconds", lines))
    before, number = bench.daemon_rss_mib(), bench.size.of(1000, 3)
    ids = [batch.submit_job(jobName="empty", jobQueue=EMPTY, jobDefinition=EMPTY)["jobId"] for _ in range(number)]
    finished(batch, ids)
    figures.append(Figure(f"local AWS: memory of {number} more finished jobs", bench.daemon_rss_mib() - before, "MiB"))
    return figures


def submit_one(batch: Any) -> None:
    finished(batch, [batch.submit_job(jobName="empty", jobQueue=EMPTY, jobDefinition=EMPTY)["jobId"]])


def finished(batch: Any, ids: Sequence[str]) -> list[dict[str, Any]]:
    """Every job once it has SUCCEEDED; asked for the last ones only until they have."""
    pause_s = 0.005 if len(ids) < 100 else 0.1
    until(lambda: _all_over(batch, ids[-100:]), pause_s)
    found: list[dict[str, Any]] = []
    for first in range(0, len(ids), 100):
        part = ids[first : first + 100]
        found += until(lambda part=part: _all_over(batch, part), pause_s)
    assert {job["status"] for job in found} == {"SUCCEEDED"}, [job.get("statusReason") for job in found][:3]
    return found


def _all_over(batch: Any, ids: Sequence[str]) -> list[dict[str, Any]]:
    jobs: list[dict[str, Any]] = batch.describe_jobs(jobs=list(ids))["jobs"]
    return jobs if all(job["status"] in ("SUCCEEDED", "FAILED") for job in jobs) else []


def _podman(bench: Bench) -> float:
    """The same program in podman, from an unpacked root, with nothing around it."""
    root = bench.folder / "podman-root"
    (root / "bin").mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or "/bin/busybox", root / "bin" / "busybox")
    (root / "bin" / "true").symlink_to("busybox")
    argv = ["podman", "run", "--rm", "--network", "host", "--rootfs", f"{root}:O", "/bin/true"]
    bench.cost(*argv)
    return bench.median(argv, 5).seconds


def hand_over(bench: Bench) -> list[Figure]:
    """Mode `batch`: what the Lambda leg takes, against a bare boto3 SubmitJob from a client that is there already."""
    bucket = deploy(bench, "handed", "#!/usr/bin/env python3\n", execution_mode="batch")
    s3, batch = bench.client("s3"), bench.client("batch")
    for n in range(bench.size.of(11, 3)):  # one after another: jobs and hand-overs share two cores
        s3.put_object(Bucket=bucket, Key=f"in/{n}", Body=b"x")
        until(lambda n=n: len(reports(bench, "handed")) > n, 0.1)
        until(lambda n=n: _ended_jobs(batch) > n, 0.05)
    told = reports(bench, "handed")
    warm = [float(line.split("Duration: ")[1].split()[0]) / 1000 for line in told if "Init Duration" not in line]
    cold = [
        (float(line.split("Duration: ")[1].split()[0]) + float(line.split("Init Duration: ")[1].split()[0])) / 1000
        for line in told
        if "Init Duration" in line
    ]
    queue = batch.describe_job_queues()["jobQueues"]
    mine = next(one["jobQueueName"] for one in queue if "handed" in one["jobQueueName"])
    definition = next(
        one["jobDefinitionName"]
        for one in batch.describe_job_definitions(status="ACTIVE")["jobDefinitions"]
        if "handed" in one["jobDefinitionName"]
    )
    bare = []
    for n in range(10):
        started = time.perf_counter()
        job = batch.submit_job(jobName=f"bare-{n}", jobQueue=mine, jobDefinition=definition)["jobId"]
        bare.append(time.perf_counter() - started)
        until(lambda job=job: _all_over(batch, [job]), 0.05)
    return [
        Figure(
            "hand-over (mode batch), warm", statistics.median(warm), "s", "boto3 SubmitJob", statistics.median(bare)
        ),
        Figure("hand-over (mode batch), cold", statistics.median(cold), "s", goal="≤ 1 s"),
    ]


def hand_over_calls(bench: Bench) -> Figure:
    """What the Lambda leg of a hand-over asks AWS, seen by a proxy; the second one, whose sandbox is there."""
    from tests.support.fault_proxy import FaultProxy

    with FaultProxy(bench.environ["AWS_ENDPOINT_URL"]) as proxy:
        there = {f"AWS_ENDPOINT_URL_{service}": proxy.endpoint for service in ("BATCH", "S3")}
        more = {"execution_mode": "batch", "environment": {"Variables": there}}
        bucket, s3 = deploy(bench, "counted", "#!/usr/bin/env python3\n", **more), bench.client("s3")
        for n in range(2):
            proxy.requests.clear()
            s3.put_object(Bucket=bucket, Key=f"in/{n}", Body=b"x")
            until(lambda n=n: len(reports(bench, "counted")) > n, 0.1)
        return Figure("  calls", len(proxy.requests), "calls", goal="≤ 5 calls")


def _ended_jobs(batch: Any) -> int:
    queue = next(one for one in batch.describe_job_queues()["jobQueues"] if "handed" in one["jobQueueName"])
    return len(batch.list_jobs(jobQueue=queue["jobQueueName"], jobStatus="SUCCEEDED")["jobSummaryList"])


def measure(size: Size) -> Result:
    growths: list[Growth] = []
    with local_aws(size) as bench:
        return Result([*queued(bench, growths), *hand_over(bench), hand_over_calls(bench)], growths)


if __name__ == "__main__":
    run.alone("batch")
