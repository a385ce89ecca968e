"""Functions whose runs may go on in Batch, their buckets, and a look from outside at what became of them.

One script serves all of them: what it does is told by the file that it is given (`todo`), so that a test deploys nothing. boto3 looks,
never the product: what `scar` says is compared with what is there.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faassupervisor import contract
from tests.e2e.conftest import Done, Local, until
from tests.support.fault_proxy import FaultProxy, Request

ENDED = {"SUCCEEDED", "FAILED"}
WRITES = (
    "Create", "Update", "Delete", "Put", "Register", "Deregister", "Add", "Attach", "Detach", "Remove", "Tag", "Untag", "Set", "Submit",
)  # fmt: skip

# Writes a part of its output first, so that a run that is stopped would show. `sleep`, `exit`, `signal`, `eat_mib`, `marker`, `deaf` may also be told for one
# place only: `sleep_lambda`, `exit_batch` …
PROBE = r"""#!/usr/bin/env python3
import json, os, pathlib, signal, subprocess, sys, time

where = "batch" if "AWS_BATCH_JOB_ID" in os.environ else "lambda"
source = pathlib.Path(os.environ["INPUT_FILE_PATH"])
todo = json.loads(source.read_text())
say = lambda what: print(f"{source.name} {what} in {where}", flush=True)
told = lambda name, default: todo.get(f"{name}_{where}", todo.get(name, default))
out = pathlib.Path(os.environ["TMP_OUTPUT_DIR"], source.stem + ".out")
out.write_text("half")
say("began")
if told("deaf", False):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # and so for the children
if marker := told("marker", ""):
    # in a session of its own, its parent gone
    stay = f"import os, time; os.setsid(); os.fork() and os._exit(0); time.sleep(300) # {marker}"
    subprocess.Popen([sys.executable, "-c", stay])
attempt = int(os.environ.get("AWS_BATCH_JOB_ATTEMPT", "1"))
if attempt < todo.get("from_attempt", 1):
    (out.parent / f"{source.stem}.attempt{attempt}").write_text("of an earlier attempt")
    time.sleep(300)
eaten = [bytearray(os.urandom(1 << 20)) for _ in range(told("eat_mib", 0))]
time.sleep(told("sleep", 0))
if told("signal", 0):
    os.kill(os.getpid(), told("signal", 0))
if todo.get("facts"):
    volatile = ("AWS_", "SCAR_ATTEMPT", "SCAR_IDEMPOTENCY_KEY", "HOSTNAME", "_X_AMZN", "LC_CTYPE")
    named = {name: value for name, value in os.environ.items() if not name.startswith(volatile)}
    for name in ("TMP_INPUT_DIR", "TMP_OUTPUT_DIR", "SCAR_EVENT_FILE"):
        named[name] = "a folder" if pathlib.Path(named[name]).is_dir() else "a file"
    for name in ("REQUEST_ID", "INSTANCE_IP", "EVENT", "EVENT_TIME", "SCAR_SEQUENCER", "SCAR_BUCKET", "SCAR_FUNCTION"):
        named[name] = bool(named[name])
    named["INPUT_FILE_PATH"] = os.path.relpath(source, os.environ["TMP_INPUT_DIR"])
    private = str(pathlib.Path(os.environ["TMP_INPUT_DIR"]).parent)
    facts = {"environment": named, "cwd": os.getcwd().replace(private, "."), "arguments": sys.argv[1:], "user": os.getuid()}
    out.write_text(json.dumps(facts, sort_keys=True, indent=1))
else:
    out.write_text(todo.get("text", "") or where)
say("ended")
sys.exit(told("exit", 0))
"""


def function(
    name: str, mode: str | None = None, *, batch: Mapping[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    """A definition whose script is PROBE, from `bucket-NAME/in` to `bucket-NAME/out`. In lambda-batch its script has three seconds in Lambda."""
    body: dict[str, Any] = {
        "name": name,
        "memory": 512,
        "timeout": 7,
        "init_script": "probe.py",
        "container": {"image": "scratch", "timeout_threshold": 4},
        "input": [{"path": f"bucket-{name}/in"}],
        "output": [{"path": f"bucket-{name}/out"}],
        **more,
    }
    if mode is None:
        return {"lambda": body}
    body["execution_mode"] = mode
    defaults = {"vcpus": 1, "memory": 256, "compute_resources": {"min_v_cpus": 0, "max_v_cpus": 4}}
    return {"lambda": body, "batch": {**defaults, **(batch or {})}}


class Clients:
    """boto3's clients of `local`, each made when it is first needed."""

    local: Local

    @functools.cached_property
    def s3(self) -> Any:
        return self.local.client("s3")

    @functools.cached_property
    def batch(self) -> Any:
        return self.local.client("batch")

    @functools.cached_property
    def logs(self) -> Any:
        return self.local.client("logs")


@dataclass
class World(Clients):
    """`local` with functions of these tests. `proxy` stands before it: rules for it decide what AWS answers."""

    local: Local
    proxy: FaultProxy

    @property
    def folder(self) -> Path:
        return self.local.folder

    @functools.cached_property
    def functions(self) -> Any:
        return self.local.client("lambda")

    def through(self, *services: str) -> dict[str, Any]:
        """`environment` of a function or of its jobs: these services are reached through the proxy."""
        return {"Variables": {f"AWS_ENDPOINT_URL_{service.upper()}": self.proxy.endpoint for service in services}}

    def write(self, file: str, *functions: Mapping[str, Any]) -> Path:
        (self.folder / "probe.py").write_text(PROBE)
        path = self.folder / file
        path.write_text(json.dumps({"functions": {"aws": list(functions)}}))  # JSON is YAML
        return path

    def deploy(self, file: str, *functions: Mapping[str, Any], versioned: bool = True) -> None:
        """`scar init`. In a versioned bucket every publication can be counted."""
        self.write(file, *functions)
        if versioned:
            for bucket in sorted(
                {item["path"].partition("/")[0] for one in functions for item in one["lambda"].get("output", ())}
            ):
                self.s3.create_bucket(Bucket=bucket)
                self.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        self.local.must("init", "-f", file)

    # what goes in

    def put(self, name: str, key: str, **todo: Any) -> str:
        """Upload one file that says what is to be done; answers its key."""
        self.s3.put_object(Bucket=f"bucket-{name}", Key=f"in/{key}.json", Body=json.dumps(todo).encode())
        return f"in/{key}.json"

    def event(self, name: str, *keys: str, sequencer: str = "0055AED6DCD90281E5") -> bytes:
        """What S3 would say of these objects: the same event as often as it is asked for, as S3 may deliver one twice."""
        return json.dumps({"Records": [self._record(f"bucket-{name}", key, sequencer) for key in keys]}).encode()

    def _record(self, bucket: str, key: str, sequencer: str) -> dict[str, Any]:
        head = self.s3.head_object(Bucket=bucket, Key=key)
        about = {"key": key, "size": head["ContentLength"], "eTag": head["ETag"].strip('"'), "sequencer": sequencer}
        if "VersionId" in head:
            about["versionId"] = head["VersionId"]
        return {
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "awsRegion": "us-east-1",
            "eventTime": "2026-01-01T00:00:00.000Z",
            "eventName": "ObjectCreated:Put",
            "s3": {
                "s3SchemaVersion": "1.0",
                "bucket": {"name": bucket, "arn": f"arn:aws:s3:::{bucket}"},
                "object": about,
            },
        }

    def hidden(self, name: str, key: str, **todo: Any) -> str:
        """An object where no trigger is: only an event that a test delivers tells of it."""
        self.s3.put_object(Bucket=f"bucket-{name}", Key=f"aside/{key}.json", Body=json.dumps(todo).encode())
        return f"aside/{key}.json"

    def invoke(self, name: str, payload: bytes) -> tuple[Any, str | None]:
        """Synchronously: the answer's document and Lambda's word for a failure."""
        answer = self.functions.invoke(FunctionName=name, Payload=payload)
        return json.loads(answer["Payload"].read()), answer.get("FunctionError")

    def deliver(self, name: str, payload: bytes) -> str:
        """Asynchronously, as S3 does; answers the request id."""
        return str(
            self.functions.invoke(FunctionName=name, InvocationType="Event", Payload=payload)["ResponseMetadata"][
                "RequestId"
            ]
        )

    # what came of it

    def output(self, name: str, key: str) -> str | None:
        """What is published, None while nothing is."""
        try:
            return str(self.s3.get_object(Bucket=f"bucket-{name}", Key=f"out/{key}.out")["Body"].read().decode())
        except self.s3.exceptions.NoSuchKey:
            return None

    def published(self, name: str, key: str) -> int:
        """How often it was put."""
        found = self.s3.list_object_versions(Bucket=f"bucket-{name}", Prefix=f"out/{key}.")
        return len(found.get("Versions", ()))

    def jobs(self, name: str, key: str = "") -> list[dict[str, Any]]:
        """All jobs of a function, or those whose event names a key; oldest first."""
        named = [{"name": "JOB_NAME", "values": [f"scar-{name}-*"]}]
        pages = self.batch.get_paginator("list_jobs").paginate(jobQueue=f"scar-{name}", filters=named)
        listed = [job["jobId"] for page in pages for job in page["jobSummaryList"]]
        found = [job for start in range(0, len(listed), 100) for job in self.described(*listed[start : start + 100])]
        return sorted((job for job in found if key in self.event_of(job)), key=lambda job: job["createdAt"])

    def described(self, *ids: str) -> list[dict[str, Any]]:
        return list(self.batch.describe_jobs(jobs=list(ids))["jobs"])

    def task(self, job: Mapping[str, Any]) -> contract.Task:
        named = {item["name"]: item["value"] for item in job["container"]["environment"]}
        return contract.Task.from_json(named[contract.TASK])

    def event_of(self, job: Mapping[str, Any]) -> str:
        task = self.task(job)
        if task.event is not None:
            return task.event
        assert task.reference is not None
        bucket, _, key = task.reference.uri.removeprefix("s3://").partition("/")
        return str(self.s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode())

    def job(self, name: str, key: str, within_s: float = 30) -> dict[str, Any]:
        """The one job of a key, once it has ended; there must never be a second one."""
        return self.jobs_when(name, key, lambda jobs: len(jobs) > 1 or (jobs and jobs[0]["status"] in ENDED), within_s)

    def jobs_when(
        self, name: str, key: str, ready: Callable[[Sequence[Any]], object], within_s: float = 30
    ) -> dict[str, Any]:
        seen: list[dict[str, Any]] = []

        def look() -> object:
            seen[:] = self.jobs(name, key)
            return ready(seen)

        until(f"the job of {key}", look, within_s)
        assert len(seen) == 1, [job["jobName"] for job in seen]
        return seen[0]

    def running(self, name: str, key: str) -> dict[str, Any]:
        """The one job of a key, once its script writes to the log."""
        job = self.jobs_when(name, key, lambda jobs: jobs and jobs[0]["status"] == "RUNNING")
        file = key.rpartition("/")[2]
        until("the script", lambda: f"{file} began in batch" in self.lines(name))
        return self.described(job["jobId"])[0]

    def lines(self, name: str) -> list[str]:
        """What Lambda and the jobs wrote."""
        found: list[str] = []
        groups = {group["logGroupName"] for group in self.logs.describe_log_groups()["logGroups"]}
        for group in sorted({f"/aws/lambda/{name}", f"/aws/batch/job/{name}"} & groups):
            pages = self.logs.get_paginator("filter_log_events").paginate(logGroupName=group)
            found += [event["message"].rstrip("\n") for page in pages for event in page["events"]]
        return found

    def settled(self, name: str) -> bool:
        """Whether no job is left that has not ended."""
        return all(job["status"] in ENDED for job in self.jobs(name))

    def submissions(self, name: str) -> list[Request]:
        """SubmitJob calls of a function's agent, as the proxy saw them."""
        return [
            call for call in self.proxy.calls("batch", "SubmitJob") if call.json["jobName"].startswith(f"scar-{name}-")
        ]

    def scar(self, *words: str) -> Done:
        return self.local.scar(*words)

    def scar_by_proxy(self, *words: str, **variables: str) -> Done:
        """The command without `--local`: its AWS is the proxy, which sees every call."""
        environ = {**self.local.aws_environ, "AWS_ENDPOINT_URL": self.proxy.endpoint, **variables}
        command = [sys.executable, "-m", "scar", *words]
        done = subprocess.run(
            command, cwd=self.folder, env=environ, capture_output=True, text=True, timeout=120, check=False
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def writes(self, since: int) -> list[str]:
        """Calls that change an account, as the proxy saw them after so many requests."""
        return [
            f"{call.service}:{call.operation}"
            for call in self.proxy.requests[since:]
            if call.operation.startswith(WRITES)
        ]
