"""The rule base of `scar explain`: one seeded fault for every rule, told by that rule and by no other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scar.aws.explaining import LAST_RESORTS, RULES, findings
from scar.aws.explaining_terms import Arrival, Environment, Facts, LambdaFunction, Machine, Need, Queue, Run
from scar.aws.jobs import Job

ID = "1f2e3d4c-0000-4000-8000-000000000001"
NAME = f"scar-cow-{'ab' * 16}-1"
FINE = Environment("scar-cow", max_vcpus=16, subnets=("subnet-1",), instance_types=("c5.large",))


def waiting(reason: str = "", **more: object) -> Facts:
    job = Job(ID, NAME, "RUNNABLE", reason, 1000)
    facts = Facts(job=job, queue=Queue("scar-cow", environments=(FINE,)), need=Need(1, 512))
    return replace(facts, **more)  # type: ignore[arg-type]


def failed(
    reason: str = "", exit_code: int | None = None, message: str = "", kind: str = "AgentFailed", **job: object
) -> Facts:
    told = Job(ID, NAME, "FAILED", reason, 1000, exit_code=exit_code, **job)  # type: ignore[arg-type]
    return Facts(
        job=told, need=Need(1, 512), failures=((kind, message),) if message else (), lines=("working", "oh no")
    )


def ran(message: str = "", kind: str = "AgentFailed", exit_code: int = 1, **run: object) -> Facts:
    failures = ((kind, message),) if message else ()
    told = Run("r-1", exit_code=exit_code, failures=failures, **run)  # type: ignore[arg-type]
    return Facts(run=told, function=LambdaFunction("cow", memory_mib=512, timeout_s=60))


def arrived(**arrival: object) -> Facts:
    told = Arrival("photos", "cow", **{"entries": (("in/", ".png"),), **arrival})  # type: ignore[arg-type]
    return Facts(arrival=told)


def environment(**said: object) -> Queue:
    return Queue("scar-cow", environments=(replace(FINE, **said),))  # type: ignore[arg-type]


# rule → what has gone wrong, and a word that the answer must hold
SEEDED: dict[str, tuple[Facts, str]] = {
    "queue-disabled": (waiting(queue=Queue("scar-cow", state="DISABLED", environments=(FINE,))), "--state ENABLED"),
    "queue-invalid": (waiting(queue=Queue("scar-cow", status="INVALID", reason="why not", environments=(FINE,))), "why not"),
    "environment-invalid": (waiting(queue=environment(status="INVALID", reason="no such role")), "no such role"),
    "environment-disabled": (waiting(queue=environment(state="DISABLED")), "DISABLED"),
    "no-subnet": (waiting(queue=environment(subnets=())), "subnets"),
    "too-many-vcpus": (waiting(need=Need(32, 512)), "16 at most"),
    "no-machine-large-enough": (waiting(need=Need(1, 8000), machine=Machine("m5.large", 2, 8192)), "m5.large"),
    "no-capacity": (waiting("CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - Service cannot fulfill the capacity"), "zones"),
    "image-not-found": (failed(container_reason="CannotPullContainerError: manifest for x:y not found", image="x:y"), "x:y"),
    "container-not-prepared": (failed(container_reason="ResourceInitializationError: unable to pull secrets"), "secrets"),
    "job-ended-by-hand": (failed("wrong input", exit_code=143, terminated=True), "wrong input"),
    "job-timed-out": (failed("Job attempt duration exceeded timeout", exit_code=143), "batch.timeout"),
    "job-out-of-memory": (failed(container_reason="OutOfMemoryError: Container killed due to memory usage", exit_code=137), "512 MiB"),
    "machine-lost": (failed("Host EC2 (instance i-0123) terminated."), "Spot"),
    "node-lost": (failed(message="node 2 of 3 was lost", kind="GangFailed", exit_code=1), "node 2 of 3"),
    "checksum-mismatch": (failed(message="reference s3://b/k: checksum mismatch: its SHA-256 is 00", exit_code=1), "state bucket"),
    "spill-missing": (ran("reference s3://b/functions/cow/spill/00: not found", kind="StageInFailed"), "two weeks"),
    "loop-stopped": (ran("s3://b/k is itself made of an output: cow → cow is a loop, and it is stopped here", kind="LoopRefused"), "scar graph"),
    "access-denied": (
        ran("s3://b/k: User: x is not authorized to perform: s3:GetObject on resource: arn:aws:s3:::b/k", kind="StageInFailed"),
        "s3:GetObject on arn:aws:s3:::b/k",
    ),
    "lambda-timed-out": (ran(status="timeout", exit_code=124), "lambda-batch"),
    "lambda-out-of-memory": (ran(status="error", error_type="Runtime.OutOfMemory", memory_mib=512, used_mib=512, exit_code=137), "512 of 512"),
    "throttled": (Facts(function=LambdaFunction("cow", concurrency=0)), "concurrency is 0"),
    "function-not-ready": (Facts(function=LambdaFunction("cow", state="Failed", reason="the image is gone")), "the image is gone"),
    "bucket-absent": (arrived(bucket_there=False, entries=()), "no bucket photos"),
    "notification-missing": (arrived(key="in/a.png", entries=(), others=("owl",)), "owl"),
    "permission-missing": (arrived(key="in/a.png", permitted=False), "may not invoke"),
    "folder-marker": (arrived(key="in/x.png/", entries=(("in/", ""),)), "folder"),
    "filter-does-not-match": (arrived(key="In/a.png"), "begin with 'in/' and end with '.png'"),
    "object-absent": (arrived(key="in/a.png", object_there=False), "no object"),
    "record-left-out": (ran(exit_code=0, skipped=("'in/a' was processed already",)), "processed already"),
    "script-failed": (failed("Essential container in task exited", exit_code=3), "oh no"),
    "failed": (failed("Dependent Job failed"), "Dependent Job failed"),
    "waits-its-turn": (waiting(), "waits for its turn"),
}  # fmt: skip


def test_every_rule_has_a_seeded_fault() -> None:
    assert set(SEEDED) == {*RULES, *LAST_RESORTS}
    assert len(RULES) >= 12


@pytest.mark.parametrize("rule", SEEDED)
def test_a_seeded_fault_is_told_by_its_rule_with_what_to_do(rule: str) -> None:
    facts, word = SEEDED[rule]
    found = findings(facts)
    assert [finding.rule for finding in found] == [rule]
    assert word in "\n".join([found[0].what, found[0].why, *found[0].next])
    assert found[0].next


@pytest.mark.parametrize(
    "facts",
    [
        Facts(job=Job(ID, NAME, "SUCCEEDED", "Essential container in task exited", 1, exit_code=0), need=Need(99, 9)),
        ran(exit_code=0),
        arrived(),
        Facts(function=LambdaFunction("cow")),
        replace(waiting(), job=Job(ID, NAME, "RUNNING", "", 1), queue=environment(state="DISABLED")),
    ],
)
def test_of_what_is_well_nothing_is_said(facts: Facts) -> None:
    assert findings(facts) == ()


def test_one_environment_of_two_that_can_take_the_job_is_enough() -> None:
    queue = Queue("scar-cow", environments=(replace(FINE, state="DISABLED"), FINE))
    assert [finding.rule for finding in findings(waiting(queue=queue))] == ["waits-its-turn"]


def test_what_a_script_that_succeeded_wrote_is_no_failure() -> None:
    run = Run("r-1", last_lines=("AccessDenied is a word",))
    assert findings(Facts(run=run, function=LambdaFunction("cow"))) == ()
