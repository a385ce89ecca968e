"""What submissions are refused, how jobs are listed, and which attempts are tried again: rules that need no sandbox."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from scar.local.batch.retrying import is_retried
from scar.local.sandbox.spec import Choice
from tests.local.batch.job_bench import Instant, JobLab, until
from tests.local.functions.lambda_bench import Local, reset_moto


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobLab]:
    folder = tmp_path_factory.mktemp("jobs")
    clock = itertools.count(1_000_000).__next__  # no two jobs at the same millisecond
    with Local(folder / "local") as local:
        made = JobLab(local, folder, engine=lambda: Choice(Instant()), clock=lambda: clock() / 100)
        made.define("plain", "echo hi")
        yield made
        made.close()
    reset_moto()


SUBMIT: dict[str, Any] = {"jobName": "a", "jobQueue": "queue", "jobDefinition": "plain"}
NOBODY = "00000000-0000-0000-0000-000000000000"
REFUSED: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("a name that begins with a hyphen", {"jobName": "-a"}, "Job name"),
    ("a name of 129", {"jobName": "a" * 129}, "Job name"),
    ("a name with a dot", {"jobName": "a.b"}, "Job name"),
    ("no such queue", {"jobQueue": "nowhere"}, "nowhere does not exist"),
    ("a disabled queue", {"jobQueue": "off"}, "DISABLED"),
    ("a queue on its way", {"jobQueue": "early"}, "CREATING"),
    ("a share without a policy", {"shareIdentifier": "me"}, "scheduling policy"),
    ("no such definition", {"jobDefinition": "nothing"}, "not found"),
    ("no such revision", {"jobDefinition": "plain:9"}, "not found"),
    ("an array of one", {"arrayProperties": {"size": 1}}, "from 2 to 10000"),
    ("an array of 10,001", {"arrayProperties": {"size": 10_001}}, "from 2 to 10000"),
    ("an unknown dependency", {"dependsOn": [{"jobId": NOBODY}]}, NOBODY),
    ("21 dependencies", {"dependsOn": [{"jobId": NOBODY}] * 21}, "at most 20"),
    ("SEQUENTIAL of one job", {"dependsOn": [{"type": "SEQUENTIAL"}]}, "array jobs only"),
    ("a short timeout", {"timeout": {"attemptDurationSeconds": 59}}, "at least 60"),
    ("eleven attempts", {"retryStrategy": {"attempts": 11}}, "from 1 to 10"),
    ("an empty word", {"containerOverrides": {"command": ["sh", ""]}}, "empty string"),
    (
        "a variable of Batch's",
        {"containerOverrides": {"environment": [{"name": "AWS_BATCH_JOB_ID", "value": "1"}]}},
        "AWS_BATCH_JOB_ID",
    ),
    ("node overrides", {"nodeOverrides": {"numNodes": 2}}, "nodeOverrides"),
)


@pytest.mark.parametrize(("change", "told"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_a_submission_that_aws_refuses_is_refused(lab: JobLab, change: dict[str, Any], told: str) -> None:
    """LO9"""
    lab.queue("off", "first").state = "DISABLED"
    lab.queue("early", "first").status = "CREATING"
    assert told in lab.refused("SubmitJob", **{**SUBMIT, **change})


def test_a_definition_is_named_in_four_ways_and_only_while_it_is_active(lab: JobLab) -> None:
    first, second = (lab.define("named", f"echo {n}") for n in (1, 2))
    for name in ("named", "named:2", second, second.rpartition(":")[0]):
        assert lab.job(lab.submit(name))["jobDefinition"] == second
    lab.ask("DeregisterJobDefinition", jobDefinition=second)
    assert lab.job(lab.submit("named"))["jobDefinition"] == first
    assert "not active" in lab.refused("SubmitJob", **{**SUBMIT, "jobDefinition": "named:2"})


def test_a_name_of_one_character_is_fine_and_so_is_one_of_128(lab: JobLab) -> None:
    assert lab.job(lab.submit("plain", jobName="1"))["jobName"] == "1"
    assert len(lab.job(lab.submit("plain", jobName="a" * 128))["jobName"]) == 128


def test_arrays_that_depend_on_each_other_index_by_index_have_one_size(lab: JobLab) -> None:
    other = lab.submit("plain", arrayProperties={"size": 3})
    depends_on = [{"jobId": other, "type": "N_TO_N"}]
    size = {"size": 2}
    assert "one size" in lab.refused("SubmitJob", **SUBMIT, arrayProperties=size, dependsOn=depends_on)


def test_jobs_are_described_by_id_a_hundred_at_a_time_and_strangers_left_out(lab: JobLab) -> None:
    job_id = lab.submit("plain", tags={"a": "b"}, parameters={"p": "1"}, retryStrategy={"attempts": 2})
    found = lab.ask("DescribeJobs", jobs=[NOBODY, job_id, job_id, f"{job_id}:0"])["jobs"]
    assert [job["jobId"] for job in found] == [job_id]
    [job] = found
    assert job["tags"] == {"a": "b"}
    assert job["parameters"] == {"p": "1"}
    assert job["retryStrategy"]["attempts"] == 2
    assert (job["isCancelled"], job["isTerminated"]) == (False, False)
    assert "at most 100" in lab.refused("DescribeJobs", jobs=[NOBODY] * 101)


def test_tags_of_a_job_are_changed_by_its_arn(lab: JobLab) -> None:
    job = lab.job(lab.submit("plain", tags={"a": "1", "b": "2"}))
    lab.ask("TagResource", resourceArn=job["jobArn"], tags={"c": "3"})
    lab.ask("UntagResource", resourceArn=job["jobArn"], tagKeys=["a", "b"])
    assert lab.ask("ListTagsForResource", resourceArn=job["jobArn"])["tags"] == {"c": "3"}
    assert lab.job(job["jobId"])["tags"] == {"c": "3"}
    assert "does not exist" in lab.refused(
        "ListTagsForResource", resourceArn=job["jobArn"].replace(job["jobId"], NOBODY)
    )


def names(lab: JobLab, **asked: Any) -> list[str]:
    asked = {"jobQueue": "listed", **asked}
    return [job["jobName"] for job in lab.ask("ListJobs", **asked)["jobSummaryList"]]


def test_jobs_are_listed_by_status_or_by_one_filter_the_latest_first(lab: JobLab) -> None:
    lab.queue("listed", "first")
    other = lab.define("other", "echo hi")
    ids = [lab.submit("plain", jobName=name, jobQueue="listed") for name in ("Test1", "test10", "mine")]
    ids.append(lab.submit(other, jobName="last", jobQueue="listed"))
    jobs = [lab.ended(job_id) for job_id in ids]
    assert names(lab) == []  # RUNNING, unless it is said otherwise
    assert names(lab, jobStatus="SUCCEEDED") == ["last", "mine", "test10", "Test1"]

    def by(name: str, *values: str, **more: Any) -> list[str]:
        return names(lab, filters=[{"name": name, "values": list(values)}], **more)

    assert by("JOB_NAME", "TEST1") == ["Test1"]
    assert by("JOB_NAME", "test1*") == ["test10", "Test1"]
    assert by("JOB_NAME", "mine", jobStatus="FAILED") == ["mine"]  # a filter is for every status
    assert by("JOB_DEFINITION", "other") == ["last"]
    assert by("JOB_DEFINITION", "plai*") == ["mine", "test10", "Test1"]
    assert by("JOB_DEFINITION", other) == ["last"]
    assert by("BEFORE_CREATED_AT", str(jobs[2]["createdAt"])) == ["test10", "Test1"]
    assert by("AFTER_CREATED_AT", str(jobs[2]["createdAt"])) == ["last"]
    two = [{"name": "JOB_NAME", "values": ["a"]}] * 2
    assert "Only one filter" in lab.refused("ListJobs", jobQueue="listed", filters=two)
    assert "is not a filter" in lab.refused("ListJobs", jobQueue="listed", filters=[{"name": "X", "values": ["a"]}])
    assert "Exactly one" in lab.refused("ListJobs", jobQueue="listed", arrayJobId=ids[0])


def test_a_list_comes_in_pages_that_neither_lose_nor_repeat(lab: JobLab) -> None:
    lab.queue("paged", "first")
    ids = [lab.submit("plain", jobQueue="paged") for _ in range(7)]
    lab.submit("plain", jobQueue="paged", arrayProperties={"size": 3})
    for job_id in ids:
        lab.ended(job_id)
    found: list[str] = []
    token: dict[str, str] = {}
    until(lambda: lab.jobs.unfinished(lab.region, lab.region.queues["paged"].arn) == 0)
    while True:
        page = lab.ask("ListJobs", jobQueue="paged", jobStatus="SUCCEEDED", maxResults=3, **token)
        found += [job["jobId"] for job in page["jobSummaryList"]]
        if "nextToken" not in page:
            break
        token = {"nextToken": page["nextToken"]}
        lab.submit("plain", jobQueue="paged")  # what comes in between changes nothing
    assert found[1:] == ids[::-1]
    assert "nextToken" in lab.refused("ListJobs", jobQueue="paged", nextToken="mine")


MATCHES: tuple[tuple[str, dict[str, Any], dict[str, Any], bool], ...] = (
    ("one attempt", {"attempts": 1}, {}, False),
    ("none said", {}, {}, False),
    ("the second of three", {"attempts": 3}, {"attempts": 2}, True),
    ("the third of three", {"attempts": 3}, {"attempts": 3}, False),
    ("what nothing matches", {"attempts": 2, "evaluateOnExit": [{"onExitCode": "9", "action": "EXIT"}]}, {}, True),
    ("an exit code", {"attempts": 2, "evaluateOnExit": [{"onExitCode": "1", "action": "exit"}]}, {}, False),
    ("the start of one", {"attempts": 2, "evaluateOnExit": [{"onExitCode": "1*", "action": "EXIT"}]}, {"exit_code": 137}, False),
    ("not all of it", {"attempts": 2, "evaluateOnExit": [{"onExitCode": "1", "action": "EXIT"}]}, {"exit_code": 12}, True),
    ("another case", {"attempts": 2, "evaluateOnExit": [{"onReason": "outofmemory*", "action": "EXIT"}]}, {"reason": "OutOfMemoryError: x"}, False),
    ("a star is anything, nothing too", {"attempts": 2, "evaluateOnExit": [{"onReason": "*", "action": "EXIT"}]}, {"exit_code": None}, False),
    (
        "every condition of an entry",
        {"attempts": 2, "evaluateOnExit": [{"onReason": "a", "onExitCode": "1", "action": "EXIT"}]},
        {"reason": "b"},
        True,
    ),
    (
        "the first that matches",
        {"attempts": 2, "evaluateOnExit": [{"onStatusReason": "Host EC2*", "action": "RETRY"}, {"onReason": "*", "action": "EXIT"}]},
        {"status_reason": "Host EC2 (instance i-1) terminated.", "exit_code": None},
        True,
    ),
)  # fmt: skip


@pytest.mark.parametrize(("strategy", "ended", "again"), [row[1:] for row in MATCHES], ids=[row[0] for row in MATCHES])
def test_an_attempt_is_tried_again_or_not(strategy: dict[str, Any], ended: dict[str, Any], again: bool) -> None:
    told = {"attempts": 1, "exit_code": 1, "reason": "", "status_reason": "Essential container in task exited"}
    assert is_retried(strategy, **{**told, **ended}) is again
