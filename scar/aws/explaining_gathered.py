"""What does AWS know of a job, a run, a function or an object that started nothing? The facts that the rules of `scar explain` are asked with.

Reads only. What may not be read is left out: an explanation with fewer facts is better than none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from scar.aws.errors import is_absent, whole
from scar.aws.explaining_terms import Arrival, Environment, Facts, LambdaFunction, Machine, Need, Queue, Run
from scar.aws.jobs import Job, described
from scar.aws.landed import TOOK, triggers
from scar.aws.logs import BATCH_GROUP, Line, Question, in_time_order, lines, of_lambda
from scar.aws.request_log import RequestLog, fact, facts_of, failed_request, is_output, report_of
from scar.aws.resources.permission import invoking_buckets

if TYPE_CHECKING:
    from scar.aws.clients import Aws

LAST_LINES: Final = 20


def of_job(aws: Aws, job_id: str) -> Facts | None:
    """A job with its queue, environments and last words; None when Batch does not know it."""
    job = described(aws, [job_id]).get(job_id)
    if job is None:
        return None
    queue = _queue(aws, job.queue) if job.queue else None
    raw = whole(aws.batch.describe_jobs(jobs=[job_id]), "jobs")[0]
    need = _need(raw)
    waits = not job.finished and job.status not in {"STARTING", "RUNNING"}
    machine = _machine(aws, queue.environments) if queue and waits else None
    last, failures = _last_words(aws, job) if job.streams else ((), ())
    return Facts(job=job, queue=queue, need=need, machine=machine, lines=last, failures=failures)


def of_request(aws: Aws, function: str, request_id: str) -> Facts | None:
    """A run in Lambda, from the function's log; None when that knows no such request."""
    log = RequestLog(aws, function, request_id)
    log.search()
    if not log.found:
        return None
    status = error_type = ""
    memory = used = 0
    failures: list[tuple[str, str]] = []
    left_out: list[str] = []
    last: deque[str] = deque(maxlen=LAST_LINES)
    for line in log.poll():
        told = facts_of(line.message)
        said = report_of(line.message)
        if said is not None:
            status, error_type, memory, used = said
        elif isinstance(message := told.get("message"), str) and isinstance(told.get("kind"), str):
            failures.append((str(told["kind"]), message))
        elif fact(told) == "skipped a record":
            left_out.append(str(told.get("reason", "")))
        elif is_output(line.message):
            last.append(line.message)
    run = Run(
        request_id,
        ended=not log.running,
        status=status,
        error_type=error_type,
        exit_code=log.outcome.exit_code,
        memory_mib=memory,
        used_mib=used,
        failures=tuple(failures),
        skipped=tuple(left_out),
        job_ids=log.outcome.job_ids,
        last_lines=tuple(last),
    )
    return Facts(run=run, function=function_of(aws, function))


def function_of(aws: Aws, name: str) -> LambdaFunction | None:
    """None when there is no such function (lambda:GetFunctionConfiguration, lambda:GetFunctionConcurrency)."""
    try:
        found = aws.lambda_.get_function_configuration(FunctionName=name)
    except ClientError as error:
        if is_absent(error):
            return None
        raise
    concurrency: int | None = None
    with _as_far_as_allowed():
        concurrency = aws.lambda_.get_function_concurrency(FunctionName=name).get("ReservedConcurrentExecutions")
    variables = found["Environment"].get("Variables", {}) if "Environment" in found else {}
    return LambdaFunction(
        name,
        state=found.get("State", "Active"),
        reason=found.get("StateReason") or found.get("LastUpdateStatusReason") or "",
        update=found.get("LastUpdateStatus", "Successful"),
        memory_mib=found.get("MemorySize", 0),
        timeout_s=found.get("Timeout", 0),
        concurrency=concurrency,
        job_queue=variables.get("SCAR_JOB_QUEUE"),
    )


def of_arrival(aws: Aws, function: str, bucket: str, key: str | None) -> Facts:
    """What stands between a bucket, or one object of it, and a function."""
    from scar.aws.objects import one

    try:
        found = triggers(aws, bucket)
    except ClientError as error:
        if not is_absent(error):
            raise
        return Facts(arrival=Arrival(bucket, function, key, bucket_there=False))
    entries = tuple((entry.prefix, entry.suffix) for entry in found if entry.function == function)
    there = key is None or key.endswith("/") or one(aws, bucket, key) is not None
    arrival = Arrival(
        bucket,
        function,
        key,
        object_there=there,
        entries=entries,
        others=tuple(sorted({entry.function for entry in found} - {function})),
        permitted=bucket in invoking_buckets(aws, function),
    )
    return Facts(arrival=arrival)


def request_for(aws: Aws, function: str, bucket: str, key: str) -> str | None:
    """The last request of the function that took the object, as its log tells."""
    last: str | None = None
    for line in lines(aws, Question(of_lambda(function).group, phrase=TOOK)):
        told = facts_of(line.message)
        if fact(told) == TOOK and told.get("bucket") == bucket and told.get("key") == key:
            last = str(told.get("request_id"))
    return last


def last_run(aws: Aws, function: str, since_ms: int) -> str | None:
    """The request that failed last since then; else the last one that ended; None when none did.

    Lambda's REPORT tells of what Lambda itself ended, the agent's own line of every other failure.
    """
    last = failed = None
    group = of_lambda(function).group
    asked = [Question(group, since_ms=since_ms, phrase=phrase) for phrase in ("REPORT RequestId:", "record failed")]
    for line in in_time_order([lines(aws, one) for one in asked]):
        said = report_of(line.message)
        if said is not None:
            last = line.message.split()[2]
            failed = last if said[0] else failed
        failed = failed_request(line.message) or failed
    return failed or last


def _queue(aws: Aws, name: str) -> Queue | None:
    found = whole(aws.batch.describe_job_queues(jobQueues=[name]), "jobQueues")
    if not found:
        return None
    arns = [one["computeEnvironment"] for one in found[0]["computeEnvironmentOrder"]]
    environments = whole(aws.batch.describe_compute_environments(computeEnvironments=arns), "computeEnvironments")
    return Queue(
        name,
        state=found[0]["state"],
        status=found[0].get("status", "VALID"),
        reason=found[0].get("statusReason") or "",
        environments=tuple(_environment(raw) for raw in environments),
    )


def _environment(raw: Mapping[str, Any]) -> Environment:
    resources: Mapping[str, Any] = raw.get("computeResources") or {}
    return Environment(
        raw["computeEnvironmentName"],
        state=raw.get("state", "ENABLED"),
        status=raw.get("status", "VALID"),
        reason=raw.get("statusReason") or "",
        fargate=str(resources.get("type", "")).startswith("FARGATE"),
        max_vcpus=resources.get("maxvCpus"),
        subnets=tuple(resources.get("subnets") or ()),
        instance_types=tuple(resources.get("instanceTypes") or ()),
    )


def _need(raw: Mapping[str, Any]) -> Need:
    ranges = (raw.get("nodeProperties") or {}).get("nodeRangeProperties") or ()
    container: Mapping[str, Any] = (ranges[0].get("container") if ranges else raw.get("container")) or {}
    asked = {one["type"]: one["value"] for one in container.get("resourceRequirements") or ()}
    return Need(float(asked.get("VCPU", 0)), int(asked.get("MEMORY", 0)), int(asked.get("GPU", 0)))


def _machine(aws: Aws, environments: Iterable[Environment]) -> Machine | None:
    """The largest machine, when only sizes are named (`c5.large`) and not families, whose largest is always large enough."""
    types = [one for environment in environments for one in environment.instance_types]
    if not types or any("." not in one for one in types):
        return None
    found: list[Machine] = []
    with _as_far_as_allowed():
        answer = aws.ec2.describe_instance_types(InstanceTypes=sorted(set(types)))  # type: ignore[arg-type]
        found = [
            Machine(raw["InstanceType"], raw["VCpuInfo"]["DefaultVCpus"], raw["MemoryInfo"]["SizeInMiB"])
            for raw in answer["InstanceTypes"]
        ]
    return max(found, key=lambda machine: machine.memory_mib, default=None)


def _last_words(aws: Aws, job: Job) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """What the script of the last attempt wrote last, and what its agent says of the failure."""
    last: deque[str] = deque(maxlen=LAST_LINES)
    failures: list[tuple[str, str]] = []
    for line in _log_of(aws, job):
        told = facts_of(line.message)
        if is_output(line.message):
            last.append(line.message)
        elif isinstance(told.get("errorType"), str):
            failures.append((told["errorType"], str(told.get("errorMessage", ""))))
    return tuple(last), tuple(failures)


def _log_of(aws: Aws, job: Job) -> Iterator[Line]:
    return lines(aws, Question(job.log_group or BATCH_GROUP, "batch", job.streams[-1:]))


@contextmanager
def _as_far_as_allowed() -> Iterator[None]:
    """What this identity may not ask, or this AWS does not know, is left out."""
    with suppress(ClientError):
        yield
