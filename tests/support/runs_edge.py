"""An AWS at the end of a wire for the commands about runs: moto for S3 and the logs, and a Lambda and a Batch that do as a test says."""

from __future__ import annotations

import copy
import io
import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from faassupervisor.contract import STATE, TASK, Task, job_name
from scar.aws.clients import Access, Aws
from scar.aws.wait import Clock

REGION = "eu-west-1"
ACCOUNT = "123456789012"
STATE_BUCKET = f"scar-state-{ACCOUNT}-{REGION}"
PAGE = 3  # jobs of a page: whoever does not ask on finds three
RUN = "ab" * 32
UNFINISHED = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING")
Respond = Callable[
    [bytes, bool], tuple[dict[str, Any], str | None]
]  # payload, asynchronous → body, kind of function error


@cache
def _way_in(url: str) -> Aws:
    """Clients are what takes time to make."""
    return Aws(Access(REGION, endpoint_url=url, access_key="a", secret_key="b"))


def now_ms() -> int:
    return int(time.time() * 1000)


@dataclass
class Said:
    """How a command ended, in this process."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def documents(self) -> list[Any]:
        """One a line."""
        return [json.loads(line) for line in self.out.splitlines()]


Scar = Callable[..., Said]


@dataclass
class World:
    """What Lambda and Batch hold. `jobs` are as DescribeJobs gives them; `each_describe` is called before every description."""

    url: str = ""
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    queues: list[str] = field(default_factory=list)
    environments: list[dict[str, Any]] = field(
        default_factory=list
    )  # of every queue, as DescribeComputeEnvironments gives them
    functions: dict[str, dict[str, str]] = field(default_factory=dict)  # name → environment
    respond: Respond = lambda payload, asynchronous: ({"request_id": "r", "runs": [], "schema": 1}, None)
    invoked: list[bytes] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    ended: list[tuple[str, str, str]] = field(default_factory=list)  # operation, job, reason
    each_describe: Callable[[], object] = lambda: None
    refuse: Callable[[], int | None] = lambda: (
        None
    )  # 429 for an invocation that is throttled, 500 for one that Lambda fails
    cancels: bool = True  # whether CancelJob does what it says
    # 503 for a call (`describejobs`, `Logs_20140328.FilterLogEvents`) that is not to be answered, 200 for an answer that is cut on its way
    fails: Callable[[str], int | None] = lambda _: None

    def aws(self, clock: Clock) -> Aws:
        """The same with another clock."""
        aws = copy.copy(self.mine)
        aws.clock = clock
        return aws

    @property
    def mine(self) -> Aws:
        """The test's own way in."""
        return _way_in(self.url)

    def environ(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_REGION": REGION,
        }

    def function(self, name: str, *, queue: str | None = None, state: bool = True) -> str:
        self.functions[name] = {
            **({STATE: f"s3://{STATE_BUCKET}/functions/{name}/"} if state else {}),
            **({"SCAR_JOB_QUEUE": queue} if queue else {}),
        }
        if queue and queue not in self.queues:
            self.queues.append(queue)
        return name

    def job(
        self,
        function: str,
        status: str = "RUNNING",
        *,
        exit_code: int | None = None,
        queue: str | None = None,
        streams: Iterable[str] = (),
        name: str | None = None,
        request_id: str | None = None,
        event: str = "{}",
        age_s: float = 60,
        **more: Any,
    ) -> str:
        """A job of ours; answers its id."""
        job_id = str(uuid.uuid4())
        task = Task(function, request_id or str(uuid.uuid4()), RUN, 1, event=event)
        container: dict[str, Any] = {
            "image": "registry.example/it",
            "environment": [{"name": TASK, "value": task.to_json().decode()}],
            "logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": f"/aws/batch/job/{function}"}},
        }
        streams = list(streams)
        if streams:
            container["logStreamName"] = streams[-1]
        if exit_code is not None:
            container["exitCode"] = exit_code
        container |= more.pop("container", {})
        begun_ms = int(now_ms() - age_s * 1000)
        self.jobs[job_id] = {
            "jobId": job_id,
            "jobName": name or job_name(function, RUN, 1),
            "jobQueue": f"arn:aws:batch:{REGION}:{ACCOUNT}:job-queue/{queue or f'scar-{function}'}",
            "jobDefinition": f"arn:aws:batch:{REGION}:{ACCOUNT}:job-definition/scar-{function}-0123456789abcdef:1",
            "status": status,
            "createdAt": begun_ms,
            "startedAt": begun_ms + 1000,
            **({"stoppedAt": begun_ms + 2000} if status not in UNFINISHED else {}),
            "attempts": [{"container": {"logStreamName": stream, "exitCode": exit_code or 0}} for stream in streams],
            "container": container,
            "dependsOn": [],
            **more,
        }
        return job_id

    def end(self, job_id: str, exit_code: int | None, reason: str = "Essential container in task exited") -> None:
        job = self.jobs[job_id]
        job |= {"status": "FAILED" if exit_code else "SUCCEEDED", "statusReason": reason, "stoppedAt": now_ms()}
        if exit_code is not None:
            job["container"]["exitCode"] = exit_code

    def log(self, group: str, stream: str, *messages: str | tuple[int, str]) -> None:
        """Lines of a group that is made when it is not there; those without a time are written now, one millisecond apart."""
        logs = self.mine.logs
        for make, names in (
            (logs.create_log_group, {"logGroupName": group}),
            (logs.create_log_stream, {"logGroupName": group, "logStreamName": stream}),
        ):
            with suppress(logs.exceptions.ResourceAlreadyExistsException):
                make(**names)  # type: ignore[operator]
        start = now_ms() - len(messages)
        events = [
            {"timestamp": item[0], "message": item[1]}
            if isinstance(item, tuple)
            else {"timestamp": start + i, "message": item}
            for i, item in enumerate(messages)
        ]
        if not events:
            return
        logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)  # type: ignore[arg-type]

    def state_bucket(self) -> None:
        with suppress(self.mine.s3.exceptions.BucketAlreadyOwnedByYou):
            self.mine.s3.create_bucket(Bucket=STATE_BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})

    # The wire.

    def answer(self, environ: dict[str, Any], body: bytes) -> tuple[int, dict[str, str], bytes] | None:
        path = environ["PATH_INFO"]
        call = path.removeprefix("/v1/") if path != "/" else environ.get("HTTP_X_AMZ_TARGET", "")
        if (status := self.fails(call)) is not None:
            return status, {}, b"{}"
        if path.startswith("/v1/"):
            operation = path.removeprefix("/v1/")
            self.calls[operation] += 1
            status, document = self._batch(operation, json.loads(body or b"{}"))
            headers = {"x-amzn-errortype": "ClientException"} if status >= 400 else {}
            return status, headers, json.dumps(document).encode()
        if path.startswith("/2015-03-31/functions/"):
            return self._lambda(path.split("/"), body, environ.get("HTTP_X_AMZ_INVOCATION_TYPE") == "Event")
        self.calls[environ.get("HTTP_X_AMZ_TARGET", environ["REQUEST_METHOD"])] += 1
        return None

    def _lambda(self, path: list[str], body: bytes, asynchronous: bool) -> tuple[int, dict[str, str], bytes]:
        name, what = path[3], path[4]
        self.calls[what] += 1
        if name not in self.functions:
            refusal = {"x-amzn-errortype": "ResourceNotFoundException"}
            return 404, refusal, json.dumps({"Message": f"Function not found: {name}"}).encode()
        if what == "configuration":
            arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"
            found = {"FunctionName": name, "FunctionArn": arn, "Environment": {"Variables": self.functions[name]}}
            return 200, {}, json.dumps(found).encode()
        if (status := self.refuse()) is not None:
            kind = "TooManyRequestsException" if status == 429 else "ServiceException"
            return status, {"x-amzn-errortype": kind}, b"{}"
        self.invoked.append(body)
        answer, failed = self.respond(body, asynchronous)
        headers = {"x-amzn-requestid": f"00000000-0000-4000-8000-{len(self.invoked):012d}"}
        if asynchronous:
            return 202, headers, b""
        return 200, {**headers, **({"x-amz-function-error": failed} if failed else {})}, json.dumps(answer).encode()

    def _batch(self, operation: str, asked: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        match operation:
            case "describejobqueues":
                order = [{"order": 1, "computeEnvironment": one["computeEnvironmentName"]} for one in self.environments]
                wanted = [name for name in self.queues if name in asked.get("jobQueues", self.queues)]
                told = {"state": "ENABLED", "status": "VALID", "computeEnvironmentOrder": order}
                return 200, {"jobQueues": [{"jobQueueName": name, **told} for name in wanted]}
            case "describecomputeenvironments":
                return 200, {"computeEnvironments": self.environments}
            case "describejobs":
                self.each_describe()
                assert 0 < len(asked["jobs"]) <= 100
                return 200, {"jobs": [self.jobs[one] for one in asked["jobs"] if one in self.jobs]}
            case "listjobs":
                return self._list(asked)
            case "canceljob" | "terminatejob":
                return self._end(operation, asked)
            case _:
                raise AssertionError(operation)

    def _list(self, asked: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        queue = asked["jobQueue"].rpartition("/")[2]
        if queue not in self.queues:
            return 400, {"message": f"Job Queue {queue} does not exist"}
        [found] = asked["filters"]
        assert found["name"] == "JOB_NAME"
        prefix = found["values"][0].removesuffix("*").lower()
        fits = [
            job
            for job in self.jobs.values()
            if job["jobQueue"].endswith(f"/{queue}")
            and job["jobName"].lower().startswith(prefix)
            and "nodeDetails" not in job
        ]
        start = int(asked.get("nextToken") or 0)
        kept = ("jobId", "jobName", "status", "statusReason", "createdAt", "startedAt", "stoppedAt", "jobDefinition")
        page = [
            {key: job[key] for key in kept if key in job}
            | {
                "container": {
                    key: job["container"][key] for key in ("exitCode", "reason") if key in job.get("container", ())
                }
            }
            | ({"nodeProperties": {"numNodes": job["nodeProperties"]["numNodes"]}} if "nodeProperties" in job else {})
            for job in fits[start : start + PAGE]
        ]
        return 200, {"jobSummaryList": page, **({"nextToken": str(start + PAGE)} if start + PAGE < len(fits) else {})}

    def _end(self, operation: str, asked: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        job = self.jobs[asked["jobId"]]
        self.ended.append((operation, asked["jobId"], asked["reason"]))
        if operation == "terminatejob":
            job |= {"status": "FAILED", "statusReason": asked["reason"], "isTerminated": True}
        elif self.cancels and job["status"] in {"SUBMITTED", "PENDING", "RUNNABLE"}:
            job |= {"status": "FAILED", "statusReason": asked["reason"], "isCancelled": True}
        return 200, {}  # also for a job that runs: nothing is cancelled then, and nothing is said


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_request(self, *_: Any) -> None:
        pass


@contextmanager
def served(world: Callable[[], World]) -> Iterator[str]:
    """The wire's other end: `world` is asked for at every request, so that each test may have its own."""
    moto = DomainDispatcherApplication(create_backend_app)

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        body = b""
        if environ["PATH_INFO"].startswith(("/v1/", "/2015-03-31/")) or environ["PATH_INFO"] == "/":
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            environ["wsgi.input"] = io.BytesIO(body)
        found = world().answer(environ, body)
        if found is None:
            return moto(environ, start_response)  # type: ignore[no-any-return]
        status, headers, content = found
        told = {"Content-Type": "application/json", "Content-Length": str(len(content)), **headers}
        start_response(f"{status} x", list(told.items()))
        return [content]

    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
