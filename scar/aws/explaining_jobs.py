"""Rules about Batch jobs: why one waits, and why one has failed. AWS's words that they look for come with their source."""

from __future__ import annotations

import re
from collections.abc import Callable

from scar.aws.explaining_terms import Answer, Environment, Facts, failed_as, failures_of, line_with

# -- a job that waits -------------------------------------------------------------------------------------------


def environment_invalid(facts: Facts) -> Answer:
    found = _environment(facts, lambda one: one.status == "INVALID")
    if found is None:
        return None
    why = found.reason or "AWS gives no reason"
    return (
        f"compute environment {found.name} is INVALID, so nothing starts in it",
        why,
        (
            "Mend what the reason names (a role, a subnet, a launch template); AWS then needs a minute.",
            "scar init -f FILE",
        ),
    )


def environment_disabled(facts: Facts) -> Answer:
    found = _environment(facts, lambda one: one.state == "DISABLED")
    if found is None:
        return None
    return (
        f"compute environment {found.name} is DISABLED, so nothing starts in it",
        "somebody switched it off, or the definition says `state: DISABLED`",
        (f"aws batch update-compute-environment --compute-environment {found.name} --state ENABLED",),
    )


def queue_disabled(facts: Facts) -> Answer:
    if facts.queue is None or facts.queue.state != "DISABLED":
        return None
    return (
        f"job queue {facts.queue.name} is DISABLED: it takes no job and starts none",
        "somebody switched it off, or a removal was interrupted",
        (f"aws batch update-job-queue --job-queue {facts.queue.name} --state ENABLED", "scar init -f FILE"),
    )


def queue_invalid(facts: Facts) -> Answer:
    if facts.queue is None or facts.queue.status not in {"INVALID", "DELETING", "DELETED"}:
        return None
    return (
        f"job queue {facts.queue.name} is {facts.queue.status}",
        facts.queue.reason or "AWS gives no reason",
        ("scar init -f FILE",),
    )


def no_subnet(facts: Facts) -> Answer:
    found = _environment(facts, lambda one: one.max_vcpus is not None and not one.subnets)
    if found is None:
        return None
    return (
        f"compute environment {found.name} has no subnet to start machines in",
        "the definition names none and the account has no default VPC",
        ("Name `batch.compute_resources.subnets` and `security_group_ids`, then: scar init -f FILE",),
    )


def too_many_vcpus(facts: Facts) -> Answer:
    """Source: batch/latest/userguide/job_stuck_in_runnable, COMPUTE_ENVIRONMENT_MAX_RESOURCE."""
    if not facts.waits or facts.need is None or facts.queue is None:
        return None
    most = [one.max_vcpus for one in facts.queue.environments]
    named = facts.job is not None and "COMPUTE_ENVIRONMENT_MAX_RESOURCE" in facts.job.reason
    limit = max((count for count in most if count is not None), default=0)
    if not named and (not most or None in most or facts.need.vcpus <= limit):
        return None
    return (
        f"the job asks for {facts.need.vcpus:g} vCPUs and its compute environment may have {limit} at most",
        "`batch.compute_resources.max_v_cpus` is below what one job needs",
        ("Raise max_v_cpus or lower `batch.vcpus`, then: scar init -f FILE", f"scar cancel {facts.id}"),
    )


def no_machine_large_enough(facts: Facts) -> Answer:
    """Source: the same page, JOB_RESOURCE_REQUIREMENT; part of a machine's memory is the system's (userguide/memory-management)."""
    if not facts.waits or facts.need is None:
        return None
    named = facts.job is not None and "JOB_RESOURCE_REQUIREMENT" in facts.job.reason
    machine = facts.machine
    small = machine is not None and (
        facts.need.memory_mib > machine.memory_mib * 0.97 or facts.need.vcpus > machine.vcpus
    )
    if not named and not small:
        return None
    best = "" if machine is None else f"; the largest, {machine.name}, has {machine.vcpus} and {machine.memory_mib} MiB"
    return (
        f"no machine that may be started is large enough for {facts.need.vcpus:g} vCPUs and {facts.need.memory_mib} MiB",
        f"`batch.compute_resources.instance_types` names only smaller ones{best}, and a part of the memory is the system's",
        ("Name a larger instance type, or lower `batch.memory`, then: scar init -f FILE", f"scar cancel {facts.id}"),
    )


def no_capacity(facts: Facts) -> Answer:
    """Source: the same page, CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY."""
    if not facts.waits or facts.job is None or "INSUFFICIENT_INSTANCE_CAPACITY" not in facts.job.reason:
        return None
    return (
        "AWS has no machine of the asked kinds free just now",
        facts.job.reason,
        ("Wait, or name more instance types and subnets of more zones, then: scar init -f FILE",),
    )


def _environment(facts: Facts, wanted: Callable[[Environment], bool]) -> Environment | None:
    """The first that is so, unless the job runs or another environment can take it."""
    environments = facts.queue.environments if facts.queue else ()
    if not environments or (facts.job is not None and not facts.waits):
        return None
    return environments[0] if all(wanted(one) for one in environments) else None


# -- a job that failed ------------------------------------------------------------------------------------------


def image_not_found(facts: Facts) -> Answer:
    """Source: AmazonECS/latest/developerguide/task_cannot_pull_image."""
    if not facts.failed or "CannotPullContainerError" not in facts.said:
        return None
    image = facts.job.image if facts.job else None
    return (
        f"the image {image or 'of the job'} could not be pulled",
        line_with(facts.said, "CannotPullContainerError"),
        (
            "Check the image's name and that the machines reach its registry, then: scar init -f FILE",
            f"scar image ls -n {facts.name}",
        ),
    )


def not_started_by_ecs(facts: Facts) -> Answer:
    """Source: AmazonECS/latest/developerguide/resource-initialization-error."""
    if not facts.failed or "ResourceInitializationError" not in facts.said:
        return None
    return (
        "the container could not be prepared: its role, a secret, the log group or the network is out of reach",
        line_with(facts.said, "ResourceInitializationError"),
        ("scar iam -f FILE", "scar init -f FILE"),
    )


def job_out_of_memory(facts: Facts) -> Answer:
    """Source: batch/latest/userguide/troubleshooting: `OutOfMemoryError: Container killed due to memory usage`."""
    job = facts.job
    if not facts.failed or job is None or ("OutOfMemory" not in facts.said and job.exit_code != 137):
        return None
    had = f" of {facts.need.memory_mib} MiB" if facts.need and facts.need.memory_mib else ""
    return (
        f"the script used more memory than the job's{had}, and was killed",
        job.why or "exit code 137: the kernel killed it",
        ("Raise `batch.memory`, then: scar init -f FILE", f"scar log -n {facts.name} -ri {job.id}"),
    )


def job_timed_out(facts: Facts) -> Answer:
    """Source: batch/latest/userguide/job_timeouts."""
    if not facts.failed or "attempt duration exceeded timeout" not in facts.said:
        return None
    return (
        "the job reached its time limit and was ended",
        "`batch.timeout` is shorter than the script takes",
        (f"scar log -n {facts.name} -ri {facts.id}", "Raise `batch.timeout`, then: scar init -f FILE"),
    )


def machine_lost(facts: Facts) -> Answer:
    """Source: batch/latest/userguide/job_retries: `Host EC2*`; on Fargate the words of a reclaimed Spot task."""
    if not facts.failed or not re.search(
        r"Host EC2 .*terminated|Spot Task was interrupted|SpotInterruption", facts.said
    ):
        return None
    return (
        "the machine under the job went away, as Spot machines do, and all its attempts were used up",
        facts.job.why if facts.job else "",
        (
            "Run it again: upload the object again, or scar run --object s3://BUCKET/KEY",
            "Raise `batch.attempts`, or use machines that are not Spot (`type: EC2`), then: scar init -f FILE",
        ),
    )


def job_ended_by_hand(facts: Facts) -> Answer:
    job = facts.job
    if not facts.failed or job is None or not (job.cancelled or job.terminated):
        return None
    return (
        f"somebody {'cancelled' if job.cancelled else 'terminated'} the job",
        job.reason or "no reason was given",
        ("Nothing of it was published. Run it again if that was a mistake.",),
    )


def node_lost(facts: Facts) -> Answer:
    if not failed_as(facts, "GangFailed"):
        return None
    return (
        "a node of the multi-node job did not come or was lost, so that all ended",
        next(message for kind, message in failures_of(facts) if kind == "GangFailed"),
        (f"scar jobs {facts.id}", f"scar log {facts.id} --node all"),
    )
