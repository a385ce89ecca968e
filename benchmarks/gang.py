"""How long does a job of several nodes take to begin, and how fast do its nodes speak, beside the same nodes started by hand with ssh?

    python benchmarks/gang.py [--quick]        results go to benchmarks/results/gang.{json,md}

By hand means: the same containers in the same local AWS, from an image with an ssh server and keys in it, whose start script does what every
tutorial says: workers tell the main node by ssh where they are, the main node waits for them and calls mpirun. Everything happens on this
machine, which has to have podman and mmdebstrap, for the image; every loop is bounded.
"""

from __future__ import annotations

import base64
import json
import shutil
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import run
from deployed import until
from figures import ROOT, Figure, Growth, Result
from surroundings import Bench, Size, local_aws

NODES = (2, 4, 8)
REPEAT = 5
NAME = "bench-gang"
IMAGE = "localhost/scar-bench-gang"

RECIPE = """
FROM {base} AS programs
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev libopenmpi-dev
COPY pingpong.c /src/
RUN mpicc -O2 -o /src/pingpong /src/pingpong.c

FROM {base}
RUN mkdir -p /run/sshd /root/.ssh && rm -f /etc/ssh/ssh_host_* && ssh-keygen -A \\
    && ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519 && cp /root/.ssh/id_ed25519.pub /root/.ssh/authorized_keys
COPY --from=programs /src/pingpong /usr/local/bin/
COPY --chmod=755 by-hand /usr/local/bin/
"""
# What the job measures is the same in both: when its script begins, when a program has run on all nodes, and the ping-pong.
MEASURE = """
date +"started %s.%N"
mpirun {options} true
date +"everywhere %s.%N"
[ "$PINGPONG" != 1 ] || echo "pingpong $(mpirun {options} -n 2 --map-by node --bind-to none pingpong)"
"""
SCRIPT = "#!/bin/sh\nset -e\nPINGPONG=$([ $SCAR_NUM_NODES = 2 ] && echo 1 || :)\n" + MEASURE.format(options="")
BY_HAND = """#!/bin/sh
set -e
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin HOME=/root
export OMPI_MCA_plm_rsh_args="-o StrictHostKeyChecking=no -o LogLevel=ERROR"
own=$(hostname -I | cut -d' ' -f1)
/usr/sbin/sshd
if [ "$AWS_BATCH_JOB_NODE_INDEX" != "$AWS_BATCH_JOB_MAIN_NODE_INDEX" ]; then
    until ssh -o StrictHostKeyChecking=no -o LogLevel=ERROR "$AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS" "echo $own slots=1 >>/tmp/hosts"; do
        sleep 0.1
    done
    exec sleep 600
fi
echo "$own slots=1" >>/tmp/hosts
until [ "$(wc -l </tmp/hosts)" = "$AWS_BATCH_JOB_NUM_NODES" ]; do sleep 0.1; done
PINGPONG=$([ "$AWS_BATCH_JOB_NUM_NODES" = 2 ] && echo 1 || :)
""" + MEASURE.format(options="--hostfile /tmp/hosts")


@dataclass(frozen=True)
class Times:
    """Of one job, in seconds since its last node's container was running; the ping-pong in seconds and bytes a second."""

    script: float
    everywhere: float
    latency_s: float | None
    bytes_per_s: float | None


def image(bench: Bench) -> None:
    from tests.e2e.mpi import images

    folder = bench.folder / "image"
    folder.mkdir()
    shutil.copy(ROOT / "benchmarks" / "pingpong.c", folder)
    (folder / "by-hand").write_text(BY_HAND)
    base = images.stored(images.OPEN_MPI_AND_SSHD).removeprefix("containers-storage:")
    (folder / "Containerfile").write_text(RECIPE.format(base=base))
    images.build("podman", "build", "-t", IMAGE, str(folder))


def deploy(bench: Bench) -> None:
    """A function for each number of nodes, all on one queue."""
    (bench.folder / "gang.sh").write_text(SCRIPT)
    functions = [
        {
            "lambda": {
                "name": f"{NAME}-{nodes}",
                "execution_mode": "batch",
                "init_script": "gang.sh",
                "container": {"image": f"containers-storage:{IMAGE}"},
                "input": [{"path": f"{NAME}/{nodes}"}],
            },
            "batch": {
                "memory": 512,
                "shared": NAME,
                "compute_resources": {"max_v_cpus": max(NODES)},
                "multi_node_parallel": {"enabled": True, "number_nodes": nodes},
            },
        }
        for nodes in NODES
    ]
    (bench.folder / "gang.yaml").write_text(json.dumps({"functions": {"aws": functions}}))
    bench.scar("init", "-f", "gang.yaml")


def with_scar(bench: Bench, nodes: int) -> Times:
    """A file is put into the bucket; its job is the one that was not there before."""
    batch = bench.client("batch")
    before = _jobs(batch)
    bench.client("s3").put_object(Bucket=NAME, Key=f"{nodes}/input", Body=b"x")
    (job,) = until(lambda: _jobs(batch) - before, 0.05)
    return _times(bench, job, nodes, f"/aws/batch/job/{NAME}-{nodes}")


def by_hand(bench: Bench, nodes: int) -> Times:
    batch = bench.client("batch")
    job = batch.submit_job(
        jobName="by-hand", jobQueue=_queue(batch), jobDefinition="by-hand", nodeOverrides={"numNodes": nodes}
    )
    return _times(bench, job["jobId"], nodes, "/aws/batch/job")


def define_by_hand(bench: Bench) -> None:
    """The image as it is, in a repository of its own, and a definition of nodes that start its script."""
    ecr, batch = bench.client("ecr"), bench.client("batch")
    address = ecr.create_repository(repositoryName="by-hand")["repository"]["repositoryUri"]
    registry = bench.environ["AWS_ENDPOINT_URL"].removeprefix("http://")
    token = ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"]
    credentials = base64.b64decode(token).decode()
    bench.cost("podman", "push", "--tls-verify=false", "--creds", credentials, IMAGE, f"docker://{registry}/by-hand:1")
    container = {
        "image": f"{address}:1",
        "command": ["by-hand"],
        "resourceRequirements": [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "512"}],
    }
    batch.register_job_definition(
        jobDefinitionName="by-hand",
        type="multinode",
        nodeProperties={
            "numNodes": max(NODES),
            "mainNode": 0,
            "nodeRangeProperties": [{"targetNodes": "0:", "container": container}],
        },
    )


def _jobs(batch: Any) -> set[str]:
    found: set[str] = set()
    for status in ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED", "FAILED"):
        pages = batch.get_paginator("list_jobs").paginate(jobQueue=_queue(batch), jobStatus=status)
        found |= {job["jobId"] for page in pages for job in page["jobSummaryList"]}
    return found


def _queue(batch: Any) -> str:
    return str(batch.describe_job_queues()["jobQueues"][0]["jobQueueName"])


def _times(bench: Bench, job: str, nodes: int, group: str) -> Times:
    batch, logs = bench.client("batch"), bench.client("logs")

    def ended() -> list[dict[str, Any]]:
        (whole,) = batch.describe_jobs(jobs=[job])["jobs"]
        return [whole] if whole["status"] in ("SUCCEEDED", "FAILED") else []

    (whole,) = until(ended, 0.1)
    assert whole["status"] == "SUCCEEDED", whole
    told = batch.describe_jobs(jobs=[f"{job}#{index}" for index in range(nodes)])["jobs"]
    running = max(node["startedAt"] for node in told) / 1000
    stream = told[0]["container"]["logStreamName"]
    lines = [one["message"] for one in logs.get_log_events(logGroupName=group, logStreamName=stream)["events"]]
    said = {
        words[0]: words[1:]
        for words in map(str.split, lines)
        if words[:1] in (["started"], ["everywhere"], ["pingpong"])
    }
    latency, rate = (float(word) for word in said["pingpong"]) if "pingpong" in said else (None, None)
    return Times(float(said["started"][0]) - running, float(said["everywhere"][0]) - running, latency, rate)


def figures_of(ours: Sequence[Times], theirs: Sequence[Times], nodes: int) -> list[Figure]:
    def median(times: Sequence[Times], name: str) -> float:
        return statistics.median(getattr(one, name) for one in times)

    peer = "ssh by hand"
    found = [
        Figure(f"{nodes} nodes, the last one runs: script begins", median(ours, "script"), "s", peer, median(theirs, "script"), "≤ 2 s"),
        Figure("  a program has run on all", median(ours, "everywhere"), "s", peer, median(theirs, "everywhere")),
    ]  # fmt: skip
    if nodes == 2:
        latency = [median(times, "latency_s") * 1e6 for times in (ours, theirs)]
        rate = [median(times, "bytes_per_s") / (1 << 20) for times in (ours, theirs)]
        found += [
            Figure("  ping-pong: one byte, one way", latency[0], "µs", peer, latency[1], "≤ 1.05"),
            Figure("  ping-pong: 4 MiB messages", rate[0], "MiB/s", peer, rate[1], "≥ 0.95"),
        ]
    return found


def measure(size: Size) -> Result:
    figures: list[Figure] = []
    lines: dict[str, dict[float, float]] = {"SCAR": {}, "ssh by hand": {}}
    with local_aws(size) as bench:
        image(bench)
        deploy(bench)
        define_by_hand(bench)
        for nodes in size.sizes(*NODES, quick=NODES[:1]):
            with_scar(bench, nodes), by_hand(bench, nodes)  # the image is unpacked now
            pairs = [(with_scar(bench, nodes), by_hand(bench, nodes)) for _ in range(size.of(REPEAT, 1))]
            found = figures_of([pair[0] for pair in pairs], [pair[1] for pair in pairs], nodes)
            figures += found
            everywhere = found[1]
            assert everywhere.theirs is not None
            lines["SCAR"][nodes], lines["ssh by hand"][nodes] = everywhere.ours, everywhere.theirs
    grown = Growth("gang-start", "a program has run on all nodes", "nodes", "seconds", lines, linear=True)
    return Result(figures, [grown])


if __name__ == "__main__":
    run.alone("gang")
