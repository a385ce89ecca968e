"""Jobs on several nodes, from outside: what goes in, what came of it, and ways to disturb them. boto3 and /proc look, never the product.

A function here runs whatever shell script the uploaded file is, so that a test deploys nothing.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faassupervisor import contract
from tests.e2e.batch.world import ENDED, Clients
from tests.e2e.conftest import Local, until

SCRIPT = '#!/bin/sh\ncd "$TMP_OUTPUT_DIR"\nexec sh -eu "$INPUT_FILE_PATH"\n'
# All nodes are on the same cores and the same kernel: Open MPI's ranks give way while they wait, and MPICH's do not try each other's memory.
ONE_MACHINE = {"OMPI_MCA_mpi_yield_when_idle": "1", "UCX_TLS": "tcp,self"}
STATE = "scar-state-123456789012-us-east-1"


def function(name: str, image: str, nodes: Mapping[str, Any], **batch: Any) -> dict[str, Any]:
    """From `bucket-NAME/in` to `bucket-NAME/out`."""
    return {
        "lambda": {
            "name": name,
            "execution_mode": "batch",
            "memory": 256,
            "init_script": "gang.sh",
            "container": {"image": image, "environment": {"Variables": ONE_MACHINE}},
            "input": [{"path": f"bucket-{name}/in"}],
            "output": [{"path": f"bucket-{name}/out"}],
        },
        "batch": {
            "vcpus": 1,
            "memory": 256,
            "compute_resources": {"max_v_cpus": 24},
            "multi_node_parallel": {"enabled": True, **nodes},
            **batch,
        },
    }


@dataclass
class Gangs(Clients):
    """`local` with functions of these tests."""

    local: Local

    def deploy(self, file: str, *functions: Mapping[str, Any]) -> None:
        """`scar init`. In a versioned bucket every publication can be counted."""
        (self.local.folder / "gang.sh").write_text(SCRIPT)
        (self.local.folder / file).write_text(json.dumps({"functions": {"aws": list(functions)}}))  # JSON is YAML
        for one in functions:
            bucket = f"bucket-{one['lambda']['name']}"
            self.s3.create_bucket(Bucket=bucket)
            self.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        self.local.must("init", "-f", file)

    # what goes in

    def put(self, name: str, key: str, *script: str) -> str:
        """Upload a script; answers the id of the job that runs it."""
        return self.put_bytes(name, key, "\n".join(script).encode())

    def put_bytes(self, name: str, key: str, body: bytes) -> str:
        self.s3.put_object(Bucket=f"bucket-{name}", Key=f"in/{key}", Body=body)
        found: list[str] = []

        def look() -> object:
            found[:] = [job["jobId"] for job in self.jobs(name) if f"in/{key}" in event_of(job)]
            return found

        until(f"the job of {key}", look)
        (job_id,) = found
        return job_id

    def jobs(self, name: str) -> list[dict[str, Any]]:
        named = [{"name": "JOB_NAME", "values": [f"scar-{name}-*"]}]
        listed = self.batch.list_jobs(jobQueue=f"scar-{name}", filters=named)["jobSummaryList"]
        return list(self.batch.describe_jobs(jobs=[job["jobId"] for job in listed])["jobs"]) if listed else []

    def submit(self, name: str, nodes: int, key: str, *script: str, **gang: Any) -> str:
        """A job of so many nodes, by hand: the function's definition with another size, and an event instead of a hand-over."""
        (made,) = self.batch.describe_job_definitions(
            jobDefinitions=[self.definition(name)]
        )["jobDefinitions"]  # fmt: skip
        main, *_ = made["nodeProperties"]["nodeRangeProperties"]
        for item in main["container"]["environment"]:
            if item["name"] == contract.GANG:
                item["value"] = json.dumps(json.loads(item["value"]) | gang)
        ranges = [{**main, "targetNodes": "0:0"}, {**main, "targetNodes": f"1:{nodes - 1}"}][:nodes]
        size = {"numNodes": nodes, "mainNode": 0, "nodeRangeProperties": ranges}
        definition = f"{name}-{key}"
        self.batch.register_job_definition(jobDefinitionName=definition, type="multinode", nodeProperties=size)
        # Below no trigger: the job is the only one that the object makes.
        self.s3.put_object(Bucket=f"bucket-{name}", Key=f"aside/{key}", Body="\n".join(script).encode())
        record = {
            "eventSource": "aws:s3",
            "eventName": "ObjectCreated:Put",
            "s3": {"bucket": {"name": f"bucket-{name}"}, "object": {"key": f"aside/{key}"}},
        }
        environment = [{"name": "EVENT", "value": json.dumps({"Records": [record]})}]
        told = {"targetNodes": "0:0", "containerOverrides": {"environment": environment}}
        answer = self.batch.submit_job(
            jobName=f"scar-{name}-{key}",
            jobQueue=f"scar-{name}",
            jobDefinition=definition,
            nodeOverrides={"nodePropertyOverrides": [told]},
        )
        return str(answer["jobId"])

    def definition(self, name: str) -> str:
        variables = self.local.client("lambda").get_function_configuration(FunctionName=name)["Environment"]
        return str(variables["Variables"][contract.JOB_DEFINITION])

    # what came of it

    def job(self, job_id: str, within_s: float = 60) -> dict[str, Any]:
        """The job once it has ended, and all of its nodes with it."""
        (seen,) = self.batch.describe_jobs(jobs=[job_id])["jobs"]
        count = seen["nodeProperties"]["numNodes"]

        def over() -> bool:
            every = [job_id, *(f"{job_id}#{index}" for index in range(count))]
            return all(one["status"] in ENDED for one in self.batch.describe_jobs(jobs=every)["jobs"])

        until(f"the end of {job_id}", over, within_s)
        (ended,) = self.batch.describe_jobs(jobs=[job_id])["jobs"]
        return dict(ended)

    def node(self, job_id: str, index: int) -> dict[str, Any]:
        (described,) = self.batch.describe_jobs(jobs=[f"{job_id}#{index}"])["jobs"]
        return dict(described)

    def lines(self, job_id: str, index: int) -> list[str]:
        """What a node wrote, in its latest attempt."""
        node = self.node(job_id, index)
        stream = node["container"].get("logStreamName")
        if not stream:
            return []
        group = node["container"]["logConfiguration"]["options"]["awslogs-group"]
        with suppress(self.logs.exceptions.ResourceNotFoundException):
            found = self.logs.get_log_events(logGroupName=group, logStreamName=stream, startFromHead=True)
            return [event["message"] for event in found["events"]]
        return []

    def says(self, job_id: str, index: int, text: str, within_s: float = 30) -> None:
        """Wait until a node has written that."""
        until(f"node {index}: {text}", lambda: any(text in line for line in self.lines(job_id, index)), within_s)

    def output(self, name: str, file: str) -> str:
        return str(self.s3.get_object(Bucket=f"bucket-{name}", Key=f"out/{file}")["Body"].read().decode())

    def published(self, name: str, file: str) -> int:
        """How often it was put."""
        found = self.s3.list_object_versions(Bucket=f"bucket-{name}", Prefix=f"out/{file}")
        return len(found.get("Versions", ()))

    def board(self, name: str, job_id: str) -> list[str]:
        """What is left of where the nodes found each other."""
        found = self.s3.list_objects_v2(Bucket=STATE, Prefix=f"functions/{name}/{contract.GANG_FOLDER}{job_id}")
        return [item["Key"] for item in found.get("Contents", ())]

    # what is done to it

    def reclaim(self, job_id: str, index: int) -> None:
        """A node's machine is gone, at once."""
        with urllib.request.urlopen(f"{self.local.url}/_scar/batch/reclaim/{job_id}%23{index}", timeout=10) as answer:
            assert json.load(answer)["reclaimed"]

    @contextmanager
    def holding(self, name: str, index: int) -> Iterator[Held]:
        """The next node of that index that starts stands still from its first moment on."""
        held = Held(f"AWS_BATCH_JQ_NAME=scar-{name}", f"AWS_BATCH_JOB_NODE_INDEX={index}")
        watch = threading.Thread(target=held.watch)
        watch.start()
        try:
            yield held
        finally:
            held.over.set()
            watch.join()
            held.release()


def event_of(job: Mapping[str, Any]) -> str:
    """The event in a job's task, wherever in the job's description it is."""
    ranges = job.get("nodeProperties", {}).get("nodeRangeProperties", ())
    variables = [item for one in ranges for item in one["container"]["environment"]]
    tasks = [item["value"] for item in variables if item["name"] == contract.TASK]
    return contract.Task.from_json(tasks[0]).event or "" if tasks else ""


class Held:
    """Processes that have certain variables, stopped as soon as they appear."""

    def __init__(self, *variables: str) -> None:
        self._variables = {variable.encode() for variable in variables}
        self.processes: set[int] = set()
        self.over = threading.Event()

    def watch(self) -> None:
        before = self._found()
        while not self.processes and not self.over.wait(0.002):
            self.processes |= self._found() - before
            for pid in self.processes:
                _signal(pid, signal.SIGSTOP)

    def until_held(self) -> None:
        until("a node to hold", lambda: self.processes)

    def release(self) -> None:
        for pid in self.processes:
            _signal(pid, signal.SIGCONT)

    def _found(self) -> set[int]:
        found = set()
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                with suppress(OSError):
                    if self._variables <= set((folder / "environ").read_bytes().split(b"\0")):
                        found.add(int(folder.name))
        return found


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def hosts(lines: Sequence[str]) -> list[str]:
    """Where the ranks were that said `rank K of N on HOST`, in the order of their numbers."""
    told = sorted(line.partition("rank ")[2].split() for line in lines if "rank " in line and " on " in line)
    assert [int(words[0]) for words in told] == list(range(len(told)))
    assert {int(words[2]) for words in told} == {len(told)}
    return [words[-1] for words in told]
