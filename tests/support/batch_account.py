"""Batch for tests of the account: the local Batch's control plane in this process, and jobs that are nothing but a status."""

from __future__ import annotations

import json
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from botocore.model import OperationModel
from botocore.parsers import create_parser

from scar.local.batch.checks import ClientError_
from scar.local.batch.records import Region
from scar.local.batch.service import Batch, Handler
from scar.local.batch.surroundings import Moto

PAGE = 2  # jobs of a page: whoever does not ask on finds two
SUBNETS = ("subnet-0a1", "subnet-0b2", "subnet-0c3")
GROUPS = ("sg-0d4",)
FINAL = ("SUCCEEDED", "FAILED")


class Jobs:
    """Jobs that only ever change when they are told to. Those that are terminated end after `slow` more listings."""

    def __init__(self) -> None:
        self.all: list[dict[str, Any]] = []
        self.terminated: list[tuple[str, str]] = []
        self.slow = 0
        self._lock = threading.Lock()

    @property
    def actions(self) -> Mapping[str, Handler]:
        return {"ListJobs": self._list, "TerminateJob": self._terminate}

    def add(self, queue: str, definition: str, status: str = "RUNNING", name: str = "job") -> str:
        """A job in the queue of this name, of a definition of this name; answers its id."""
        job = {
            "jobId": str(uuid.uuid4()),
            "jobName": name,
            "status": status,
            "jobDefinition": f"arn:aws:batch:eu-west-1:123456789012:job-definition/{definition}:1",
            "queue": queue,
        }
        self.all.append(job)
        return str(job["jobId"])

    def status_of(self, job_id: str) -> str:
        return next(str(job["status"]) for job in self.all if job["jobId"] == job_id)

    def unfinished(self, region: Region, queue_arn: str) -> int:
        queue = queue_arn.rpartition("/")[2]
        return sum(job["queue"] == queue and job["status"] not in FINAL for job in self.all)

    def end_queue(self, region: Region, queue_arn: str) -> None:
        raise AssertionError("a queue is deleted while jobs in it are unfinished")

    def page(self, path: str, authorization: str | None) -> Any:
        return None

    def status(self) -> Mapping[str, Any]:
        return {}

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def _list(self, region: Region, request: Mapping[str, Any]) -> dict[str, Any]:
        queue = str(request["jobQueue"]).rpartition("/")[2]
        if region.queue(queue) is None:
            raise ClientError_(f"Job queue {queue} does not exist")
        with self._lock:
            for job in self.all:
                if job.get("ends_after") is not None:
                    job["ends_after"] -= 1
                    if job["ends_after"] < 0:
                        job["status"], job["ends_after"] = "FAILED", None
            found = [job for job in self.all if job["queue"] == queue and _asked_for(job, request)]
        start = int(request.get("nextToken", "0"))
        kept = ("jobId", "jobName", "status", "jobDefinition")
        answer: dict[str, Any] = {
            "jobSummaryList": [{name: job[name] for name in kept} for job in found[start : start + PAGE]]
        }
        if start + PAGE < len(found):
            answer["nextToken"] = str(start + PAGE)
        return answer

    def _terminate(self, region: Region, request: Mapping[str, Any]) -> dict[str, Any]:
        with self._lock:
            self.terminated.append((request["jobId"], request["reason"]))
            for job in self.all:
                if job["jobId"] == request["jobId"]:
                    job["ends_after"] = self.slow
        return {}


def _asked_for(job: Mapping[str, Any], request: Mapping[str, Any]) -> bool:
    """A filter lists what has any status (botocore batch:ListJobsRequest.filters); of filters, only that for all jobs is known here."""
    if not request.get("filters"):
        return bool(job["status"] == request.get("jobStatus", "RUNNING"))
    assert request["filters"] == [{"name": "AFTER_CREATED_AT", "values": ["0"]}], request["filters"]
    return True


class Around(Moto):
    """moto's IAM; networks are there if they are called so, for moto's own take a second to make and are named anew each time."""

    def subnets(self, ids: Iterable[str]) -> str | None:
        return None if set(ids) <= set(SUBNETS) else "CLIENT_ERROR - no such subnet"

    def security_groups(self, ids: Iterable[str]) -> str | None:
        return None

    def launch_template(self, id_or_name: str) -> str | None:
        return None


class LocalBatch:
    """The service, and the hook that answers a client's calls to `batch` with it. Time is the test's clock."""

    def __init__(self, account: str, region: str, clock: Callable[[], float]) -> None:
        self._account, self._name, self._clock = account, region, clock
        self._parser = create_parser("rest-json")
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.reset()

    def reset(self) -> None:
        """Nothing is there."""
        self.close()
        self._folder = tempfile.TemporaryDirectory(prefix="scar-batch-")
        self.jobs = Jobs()
        self.service = Batch(
            Path(self._folder.name),
            jobs=lambda _: self.jobs,
            clock=self._clock,
            settle_s=0.3,
            around=lambda region: Around(region.account, region.region),
        )

    def close(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    @property
    def region(self) -> Region:
        return self.service.region(self._account, self._name)

    def answer(self, model: OperationModel, params: Mapping[str, Any], **_: Any) -> tuple[Any, dict[str, Any]] | None:
        """For botocore's `before-call`: what this returns is the answer, and nothing is sent."""
        if model.service_model.service_name != "batch":
            return None
        body = params["body"]
        content = body.encode() if isinstance(body, str) else bytes(body)
        status, document = self.service.respond(self._account, self._name, params["method"], _target(params), content)
        headers = {"x-amzn-errortype": document["code"]} if status >= 300 else {}
        answered = {"status_code": status, "headers": headers, "body": json.dumps(document).encode()}
        return SimpleNamespace(status_code=status), self._parser.parse(answered, model.output_shape)

    def dump(self) -> dict[str, Any]:
        """Everything that scar could have made, with what changes by itself left out."""
        self.service.handle(self._account, self._name, "describejobqueues", b"{}")  # what is due happens
        region = self.region
        return {
            "compute environments": {
                name: {"request": one.request, "state": one.state, "status": one.status, "tags": dict(one.tags)}
                for name, one in sorted(region.environments.items())
            },
            "job queues": {
                name: {
                    "request": one.request,
                    "environments": one.environments,
                    "priority": one.priority,
                    "state": one.state,
                    "status": one.status,
                    "tags": dict(one.tags),
                }
                for name, one in sorted(region.queues.items())
            },
            "job definitions": {
                name: {"request": active[-1].request, "tags": dict(active[-1].tags)}
                for name, revisions in sorted(region.definitions.items())
                if (active := [one for one in revisions if one.active])
            },
        }


def _target(params: Mapping[str, Any]) -> str:
    query = params.get("query_string") or {}
    words = [
        f"{key}={value}"
        for key, values in query.items()
        for value in (values if isinstance(values, list) else [values])
    ]
    return str(params["url_path"]) + ("?" + "&".join(words) if words else "")
