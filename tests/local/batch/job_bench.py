"""A Batch whose jobs really run: the registry and moto of `Local`, the service on top, and a busybox image."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from scar.local.batch.capacity import Machine
from scar.local.batch.jobs import Jobs
from scar.local.batch.records import ComputeEnvironment, JobQueue, Region
from scar.local.batch.scheduler import Pace
from scar.local.batch.service import Batch
from scar.local.rootfs import RootfsStore
from scar.local.sandbox import choose
from scar.local.sandbox.spec import Ended, Isolation, Place, SandboxSpec
from scar.local.server import Server
from tests.local.functions.lambda_bench import ACCOUNT, REGION, Local, Logs
from tests.local.functions.lambda_bench import until as _until

PATIENCE_S = 30.0  # of tests on a machine that is busy with others
ENDED = ("SUCCEEDED", "FAILED")
SLOW = ("STARTING", "RUNNING", *ENDED)


def until(check: Callable[[], Any], seconds: float = PATIENCE_S) -> Any:
    """What `check` answers once it is true."""
    return _until(check, seconds)


class JobLab:
    """One Batch. `sh` runs a line of shell in the busybox image and answers the job as DescribeJobs shows it once it has ended."""

    def __init__(
        self,
        local: Local,
        folder: Path,
        *,
        pace: Pace | None = None,
        machine: Machine | None = None,
        engine: Callable[[], Any] | None = None,
        vcpus: int = 8,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.local, self.folder, self.logs = local, folder, Logs()
        self.told: list[str] = []
        self.invoked: list[tuple[str, dict[str, Any]]] = []
        self._server = Server(0, self._answer)
        self.url = f"http://127.0.0.1:{self._server.port}"
        jobs: list[Jobs] = []

        def make_jobs(regions: Callable[[str, str], Region]) -> Jobs:
            jobs.append(
                Jobs(
                    regions,
                    state=folder / "batch",
                    efs=folder / "efs",
                    endpoint=lambda: self.url,
                    serve=self._server.also_on,
                    log=self.logs,
                    registry=local.registry,
                    engine=engine or cache(lambda: choose(scratch=folder / "scratch")),
                    rootfs=RootfsStore(folder / "rootfs"),
                    invoke=lambda arn, payload, *_: self.invoked.append((arn, json.loads(payload))),
                    pace=pace or Pace(second_s=1 / 60, stop_s=0.5, idle_s=0.05),
                    machine=machine,
                    clock=clock,
                    tell=self.told.append,
                )
            )
            return jobs[0]

        self.batch = Batch(folder / "control", jobs=make_jobs)
        self.jobs = jobs[0]
        self.region = self.batch.region(ACCOUNT, REGION)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        if not self.region.environments:
            self.environment("first", vcpus)
            self.queue("queue", "first")
        self.batch.start()
        self._open = True

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Any:
        path = environ["PATH_INFO"].removeprefix("/_scar/batch/")
        found = self.batch.page(path, environ.get("HTTP_AUTHORIZATION"))
        start_response("404 Not Found" if found is None else "200 OK", [("Content-Type", "application/json")])
        return [json.dumps(found).encode()]

    def close(self) -> None:
        if self._open:
            self._open = False
            self.batch.stop()
            self._server.shutdown()
            self._server.end()

    def reopened(self, **settings: Any) -> JobLab:
        self.close()
        return JobLab(self.local, self.folder, **settings)

    def environment(self, name: str, vcpus: int, **resources: Any) -> ComputeEnvironment:
        arn = self.region.arn(f"compute-environment/{name}")
        wanted = {"type": "MANAGED", "computeResources": {"type": "EC2", "maxvCpus": vcpus, "minvCpus": 0, **resources}}
        with self.region.lock:
            made = self.region.environments[name] = ComputeEnvironment(name, arn, wanted, status="VALID", uuid="u")
            self.region.changed.notify_all()
        return made

    def queue(self, name: str, *environments: str, priority: int = 1, **request: Any) -> JobQueue:
        arns = tuple(self.region.environments[one].arn for one in environments)
        with self.region.lock:
            made = self.region.queues[name] = JobQueue(
                name, self.region.arn(f"job-queue/{name}"), request, arns, priority, status="VALID"
            )
            self.region.changed.notify_all()
        return made

    def ask(self, operation: str, **request: Any) -> dict[str, Any]:
        status, answer = self.batch.handle(ACCOUNT, REGION, operation.lower(), json.dumps(request).encode())
        assert status == 200, answer
        return answer

    def refused(self, operation: str, **request: Any) -> str:
        """The message of a refusal."""
        status, answer = self.batch.handle(ACCOUNT, REGION, operation.lower(), json.dumps(request).encode())
        assert (status, answer["code"]) == (400, "ClientException"), answer
        return str(answer["message"])

    def define(
        self, name: str, command: str | list[str] = "", *, more: Mapping[str, Any] | None = None, **container: Any
    ) -> str:
        """A definition whose command is a line of shell; its ARN."""
        properties = {
            "image": self.image,
            "command": ["/bin/sh", "-c", command] if isinstance(command, str) else command,
            "resourceRequirements": [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "64"}],
            **container,
        }
        made = self.ask(
            "RegisterJobDefinition",
            jobDefinitionName=name,
            type="container",
            containerProperties=properties,
            **(more or {}),
        )
        return str(made["jobDefinitionArn"])

    def define_nodes(
        self,
        name: str,
        command: str,
        *,
        nodes: int,
        main: int = 0,
        ranges: Sequence[Mapping[str, Any]] = (),
        **more: Any,
    ) -> str:
        """A multinode definition; `ranges` are what is different about some of its nodes: `targetNodes` and members of the container."""
        usual = {
            "image": self.image,
            "command": ["/bin/sh", "-c", command],
            "resourceRequirements": [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "16"}],
        }
        others = [
            {
                "targetNodes": one["targetNodes"],
                "container": {**usual, **{n: v for n, v in one.items() if n != "targetNodes"}},
            }
            for one in ranges
        ]
        properties = {
            "numNodes": nodes,
            "mainNode": main,
            "nodeRangeProperties": [{"targetNodes": "0:", "container": usual}, *others],
        }
        made = self.ask(
            "RegisterJobDefinition", jobDefinitionName=name, type="multinode", nodeProperties=properties, **more
        )
        return str(made["jobDefinitionArn"])

    @property
    def image(self) -> str:
        return plain_image(self.local)

    def submit(self, definition: str, **more: Any) -> str:
        more = {"jobName": definition.rpartition("/")[2].partition(":")[0], "jobQueue": "queue", **more}
        return str(self.ask("SubmitJob", jobDefinition=definition, **more)["jobId"])

    def job(self, job_id: str) -> dict[str, Any]:
        return dict(self.ask("DescribeJobs", jobs=[job_id])["jobs"][0])

    def reach(self, job_id: str, *statuses: str, seconds: float = PATIENCE_S) -> dict[str, Any]:
        """The job once it has one of these statuses."""
        return dict(until(lambda: job if (job := self.job(job_id))["status"] in statuses else None, seconds))

    def ended(self, job_id: str, seconds: float = PATIENCE_S) -> dict[str, Any]:
        return self.reach(job_id, *ENDED, seconds=seconds)

    def run(
        self, name: str, command: str | list[str], *, submit: Mapping[str, Any] | None = None, **more: Any
    ) -> dict[str, Any]:
        return self.ended(self.submit(self.define(name, command, **more), **(submit or {})))

    def output(self, job: Mapping[str, Any]) -> list[str]:
        """What the last attempt said."""
        stream = job["container"]["logStreamName"]
        return [text for _, name, text, _ in list(self.logs.lines) if name == stream]


class Instant:
    """An engine whose programs have always ended already, with 0; `started` are the specs, `networks` those that were made."""

    name = "instant"
    isolation = Isolation("none", "none", "none", "none")

    def __init__(self) -> None:
        self.started: list[SandboxSpec] = []
        self.networks: list[_Places] = []

    def probe(self) -> None:
        return None

    def start(self, spec: SandboxSpec) -> _Ended:
        self.started.append(spec)
        return _Ended()

    def network(self, hostnames: Sequence[str], *, endpoint: str, serve: Any) -> _Places:
        self.networks.append(_Places(tuple(Place(f"127.0.9.{n}", name) for n, name in enumerate(hostnames)), endpoint))
        return self.networks[-1]


class Held(Instant):
    """An engine whose programs run until they are told to end. `programs` are those that have been started, by their job's id, the latest only;
    `waits` holds up starts of programs while it is not set."""

    name = "held"

    def __init__(self) -> None:
        super().__init__()
        self.programs: dict[str, Program] = {}
        self.waits = threading.Event()
        self.waits.set()

    def start(self, spec: SandboxSpec) -> Program:  # type: ignore[override]
        self.waits.wait()
        self.started.append(spec)
        made = self.programs[spec.environment["AWS_BATCH_JOB_ID"]] = Program()
        return made


class Program:
    """Nothing but an exit code to come. `told` is what it was asked; a `stubborn` one ends only when it is killed."""

    def __init__(self) -> None:
        reading, self._writing = os.pipe()
        self.output = os.fdopen(reading, "rb")
        self.told: list[str] = []
        self.stubborn = False
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._code = 0

    def end(self, code: int = 0) -> None:
        with self._lock:
            if not self._ended.is_set():
                self._code = code
                os.close(self._writing)
                self._ended.set()

    def wait(self, timeout_s: float | None = None) -> Ended | None:
        return Ended(self._code) if self._ended.wait(timeout_s) else None

    def terminate(self) -> None:
        self.told.append("terminate")
        if not self.stubborn:
            self.end(143)

    def kill(self) -> None:
        self.told.append("kill")
        self.end(137)

    def peak_memory_mib(self) -> int:
        return 1


class _Places:
    """Places that nobody ever goes to."""

    own, credentials_host = False, None

    def __init__(self, places: tuple[Place, ...], endpoint: str) -> None:
        self.places, self.endpoint, self.closed = places, endpoint, False

    def close(self) -> None:
        self.closed = True


class _Ended:
    def __init__(self) -> None:
        reading, writing = os.pipe()
        os.close(writing)
        self.output = os.fdopen(reading, "rb")

    def wait(self, timeout_s: float | None = None) -> Ended:
        return Ended(0)

    def terminate(self) -> None:
        """It has ended."""

    def kill(self) -> None:
        """It has ended."""

    def peak_memory_mib(self) -> int:
        return 1


def plain_image(local: Local) -> str:
    """A busybox with nothing but a CMD; its URI."""
    from tests.local.functions.lambda_bench import busybox, layer

    name = "scar/plain"
    if not local.ecr_has(name):
        local.ecr.create_repository(repositoryName=name)
        files = {"bin/busybox": busybox(), "etc/passwd": b"root:x:0:0::/:/bin/sh\nalice:x:1234:1235::/:/bin/sh\n"}
        config = {"Cmd": ["/bin/sh", "-c", "echo cmd"], "Env": ["A=image", "B=image", "C=image", "PATH=/bin"]}
        local.push(name, "latest", layer(files), config=config)
    return f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/{name}:latest"
