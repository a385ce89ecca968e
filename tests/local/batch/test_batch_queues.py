"""Job queues, scheduling policies and tags of the local Batch."""

from __future__ import annotations

import time

import pytest
from control_bench import ACCOUNT, EC2, ON_EC2, REGION, Bench, Refused, queue_of

LIMITS = [
    {
        "reason": "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT",
        "state": "RUNNABLE",
        "maxTimeSeconds": 600,
        "action": "CANCEL",
    }
]


@pytest.fixture
def batch(tmp_path):
    bench = Bench(tmp_path)
    bench.make()
    return bench


def test_a_queue_is_described_as_it_was_asked_for(batch):
    batch("CreateComputeEnvironment", EC2 | {"computeEnvironmentName": "other"})
    order = [{"order": 20, "computeEnvironment": "place"}, {"order": 10, "computeEnvironment": "other"}]
    batch("CreateJobQueue", jobQueueName="second", priority=7, state="DISABLED", computeEnvironmentOrder=order,
          tags={"a": "b"}, jobStateTimeLimitActions=LIMITS)  # fmt: skip
    found = batch.queue("second")
    arn = "arn:aws:batch:eu-west-1:123456789012:"
    assert found == {
        "jobQueueName": "second",
        "jobQueueArn": f"{arn}job-queue/second",
        "state": "DISABLED",
        "status": "VALID",
        "statusReason": "JobQueue Healthy",
        "priority": 7,
        "computeEnvironmentOrder": [
            {"order": 10, "computeEnvironment": f"{arn}compute-environment/other"},
            {"order": 20, "computeEnvironment": f"{arn}compute-environment/place"},
        ],
        "serviceEnvironmentOrder": [],
        "jobQueueType": "ECS",
        "tags": {"a": "b"},
        "jobStateTimeLimitActions": LIMITS,
    }


def test_a_queue_is_changed_member_by_member(batch):
    batch("CreateComputeEnvironment", EC2 | {"computeEnvironmentName": "other"})
    batch("UpdateJobQueue", jobQueue="line", priority=3)
    batch("UpdateJobQueue", jobQueue="line", jobStateTimeLimitActions=LIMITS)
    batch(
        "UpdateJobQueue", jobQueue="line", computeEnvironmentOrder=queue_of("other", "place")["computeEnvironmentOrder"]
    )
    batch("UpdateJobQueue", jobQueue="line", state="DISABLED")
    found = batch.queue()
    assert (found["priority"], found["state"], found["jobStateTimeLimitActions"]) == (3, "DISABLED", LIMITS)
    assert [one["computeEnvironment"].rpartition("/")[2] for one in found["computeEnvironmentOrder"]] == [
        "other",
        "place",
    ]
    batch("UpdateJobQueue", jobQueue="line", jobStateTimeLimitActions=[])
    assert batch.queue()["jobStateTimeLimitActions"] == []


def test_a_queue_goes_only_disabled_and_its_jobs_end_before_it(tmp_path):
    batch = Bench(tmp_path, settle_s=1.0)
    batch("CreateComputeEnvironment", EC2)
    batch.now_s += 1
    arn = batch("CreateJobQueue", queue_of("place"))["jobQueueArn"]
    with pytest.raises(Refused, match="resource is being modified"):
        batch("DeleteJobQueue", jobQueue="line")
    batch.now_s += 1
    with pytest.raises(Refused, match="must be in DISABLED state"):
        batch("DeleteJobQueue", jobQueue="line")
    batch("UpdateJobQueue", jobQueue="line", state="DISABLED")
    batch.now_s += 1
    batch.jobs.alive[arn] = 3
    batch("DeleteJobQueue", jobQueue="line")
    seen = []
    while (found := batch.queue()) is not None:
        seen.append((found["status"], batch.jobs.alive[arn]))
        batch.now_s += 1
    assert seen == [("DELETING", 3), ("DELETING", 2), ("DELETING", 1)]
    assert batch.jobs.ended == [arn] * 3
    with pytest.raises(Refused, match="does not exist"):
        batch("DeleteJobQueue", jobQueue="line")


def test_whoever_waits_for_a_change_is_woken_by_the_passing_of_time_too(tmp_path):
    bench = Bench(tmp_path, settle_s=0.05, clock=time.time)
    region = bench.batch.region(ACCOUNT, REGION)
    bench.batch.start()
    try:
        bench("CreateComputeEnvironment", EC2)
        with region.lock:
            assert region.environments["place"].takes_jobs is False
            assert region.changed.wait_for(lambda: region.environments["place"].takes_jobs, timeout=5.0)
    finally:
        bench.batch.stop()


def test_a_policy_is_kept_while_a_queue_has_it_and_a_fifo_queue_never_gets_one(batch):
    made = batch("CreateSchedulingPolicy", name="fair", fairsharePolicy={"shareDecaySeconds": 60})
    other = batch("CreateSchedulingPolicy", name="other")
    batch("CreateJobQueue", queue_of("place") | {"jobQueueName": "shared", "schedulingPolicyArn": made["arn"]})
    batch("UpdateSchedulingPolicy", arn=made["arn"], fairsharePolicy={"computeReservation": 50})
    described = batch(
        "DescribeSchedulingPolicies", arns=[made["arn"], "arn:aws:batch:eu-west-1:123456789012:scheduling-policy/none"]
    )
    assert described["schedulingPolicies"] == [
        {"name": "fair", "arn": made["arn"], "tags": {}, "fairsharePolicy": {"computeReservation": 50}}
    ]
    assert [one["arn"] for one in batch("ListSchedulingPolicies")["schedulingPolicies"]] == [made["arn"], other["arn"]]
    with pytest.raises(Refused, match="found existing JobQueue relationship"):
        batch("DeleteSchedulingPolicy", arn=made["arn"])
    with pytest.raises(Refused, match="FIFO"):
        batch("UpdateJobQueue", jobQueue="line", schedulingPolicyArn=made["arn"])
    with pytest.raises(Refused, match="between 0 and 99"):
        batch("CreateSchedulingPolicy", name="bad", fairsharePolicy={"computeReservation": 100})
    batch("UpdateJobQueue", jobQueue="shared", schedulingPolicyArn=other["arn"])
    batch("DeleteSchedulingPolicy", arn=made["arn"])
    assert [one["arn"] for one in batch("ListSchedulingPolicies")["schedulingPolicies"]] == [other["arn"]]


def test_everything_has_tags_that_are_seen_in_its_description(batch):
    definition = batch("RegisterJobDefinition", ON_EC2 | {"tags": {"made": "so"}})["jobDefinitionArn"]
    policy = batch("CreateSchedulingPolicy", name="fair")["arn"]
    arns = [batch.environment()["computeEnvironmentArn"], batch.queue()["jobQueueArn"], definition, policy]
    for arn in arns:
        batch("TagResource", resourceArn=arn, tags={"a": "1", "b": "2"})
        batch("UntagResource", resourceArn=arn, tagKeys=["b", "never was"])
        assert batch.restarted()("ListTagsForResource", resourceArn=arn)["tags"].items() >= {("a", "1")}
    assert batch.environment()["tags"] == batch.queue()["tags"] == {"a": "1"}
    assert batch("DescribeJobDefinitions", jobDefinitions=["job:1"])["jobDefinitions"][0]["tags"] == {
        "made": "so",
        "a": "1",
    }
    with pytest.raises(Refused, match="at most 50"):
        batch("TagResource", resourceArn=policy, tags={f"k{number}": "" for number in range(50)})


@pytest.mark.parametrize(
    "what", ["job-queue/none", "job-definition/job", "job-definition/job:2", "consumable-resource/a", ""]
)
def test_tags_of_what_is_not_there_are_refused(batch, what):
    batch("RegisterJobDefinition", ON_EC2)
    with pytest.raises(Refused, match="does not exist"):
        batch("ListTagsForResource", resourceArn=f"arn:aws:batch:eu-west-1:123456789012:{what}")


def test_tags_of_jobs_are_the_jobs_own(batch):
    job = "arn:aws:batch:eu-west-1:123456789012:job/0"
    batch("TagResource", resourceArn=job, tags={"a": "1"})
    batch("TagResource", resourceArn=batch.queue()["jobQueueArn"], tags={"a": "1"})
    assert batch.jobs.tagged == [job]
