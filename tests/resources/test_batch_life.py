"""Batch's resources from the first `init` to the last `rm`: made once, changed in place, shared, and gone in AWS's order without a job lost."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from scar.aws.resources.batch_share import Leaving
from scar.errors import ConflictError, ScarError
from scar.plan.apply import ApplyError, Silent, apply
from scar.plan.diff import diff
from scar.plan.owned import owned, refuse_unfinished, stopping
from scar.plan.resource import Id
from tests.resources.batch_bench import dump, make, nothing, plan_of, remove
from tests.support.account import READS, Account, Killed, batch_function, function, killed
from tests.support.batch_account import SUBNETS
from tests.support.deploying import init, plan_init, rm

PLACE = "scar-grayify"
SHARED = "scar-shared-gpu"


def _batch(calls: Iterable[tuple[str, str]]) -> list[str]:
    return [name for service, name in calls if service == "batch"]


def _writes(acct: Account) -> list[str]:
    return [name for _, name in acct.wire.writes]


def _job(acct: Account, function: str = "grayify", place: str = PLACE, status: str = "RUNNING") -> str:
    return acct.batch.jobs.add(place, f"scar-{function}-{'0' * 16}", status, name=f"scar-{function}-1")


@pytest.mark.parametrize("mode", ["batch", "lambda-batch"])
def test_the_second_init_of_a_function_with_jobs_writes_nothing(mode: str, acct: Account) -> None:
    """T1-12: everything is reused."""
    fn = batch_function(mode=mode)
    init(acct.aws, fn)
    acct.wire.clear()
    assert not plan_init(acct.aws, fn)
    init(acct.aws, fn)
    assert acct.wire.writes == []


@pytest.mark.parametrize(
    "batch",
    [
        {"type": "FARGATE", "memory": 2048},
        {"type": "FARGATE_SPOT", "shared": "gpu", "memory": 2048},
        {"type": "SPOT", "instance_types": ("m7i", "c7i"), "min_v_cpus": 1, "launch_template_name": "theirs"},
        {"allocation_strategy": "BEST_FIT", "instance_types": ("optimal",), "state": "DISABLED"},
        {"shared": "gpu", "priority": 7, "max_runnable_time": 900},
    ],
    ids=lambda batch: " ".join(map(str, batch.values())),
)
def test_whatever_the_machines_nothing_differs_once_it_is_made_and_all_of_it_goes(
    batch: dict[str, Any], acct: Account
) -> None:
    fn = batch_function(batch=batch)
    make(acct.aws, fn)
    assert str(plan_of(acct.aws, fn)) == "nothing to do"
    remove(acct.aws)
    assert nothing(acct)


def test_a_queue_is_made_before_a_valid_environment_and_a_function_after_both(acct: Account) -> None:
    init(acct.aws, batch_function())
    order = [name for _, name in acct.wire.calls if name in ("CreateComputeEnvironment", "CreateJobQueue", "RegisterJobDefinition", "CreateFunction", "PutFunctionEventInvokeConfig")]  # fmt: skip
    assert order.index("CreateComputeEnvironment") < order.index("CreateJobQueue") < order.index("CreateFunction")
    assert order[-2:] == ["CreateFunction", "PutFunctionEventInvokeConfig"]


def test_the_mark_that_tells_of_batch_stands_before_anything_is_made_there(acct: Account) -> None:
    make(acct.aws, batch_function(batch={"shared": "gpu"}))
    calls = acct.wire.calls
    marks = [at for at, call in enumerate(calls) if call == ("s3", "PutObject")]
    first = next(at for at, (service, name) in enumerate(calls) if service == "batch" and not name.startswith(READS))
    assert len(marks) == 3, "the bucket's settings, the function's mark, the share's mark"
    assert max(marks) < first


def test_removal_goes_in_the_order_that_batch_demands(acct: Account) -> None:
    """Queue DISABLED, VALID, deleted, gone; environment the same; then definitions; roles and profile last."""
    init(acct.aws, batch_function())
    acct.wire.clear()
    rm(acct.aws, threads=1)
    writes = _writes(acct)
    order = [
        "DeleteFunction",
        "UpdateJobQueue",
        "DeleteJobQueue",
        "UpdateComputeEnvironment",
        "DeleteComputeEnvironment",
        "RemoveRoleFromInstanceProfile",
        "DeleteInstanceProfile",
    ]
    assert [name for name in writes if name in order] == order
    names = [name for _, name in acct.wire.calls]
    between = names[names.index("DeleteJobQueue") : names.index("UpdateComputeEnvironment")]
    assert between.count("DescribeJobQueues") > 1, "the queue is seen to be gone"
    assert writes.index("DeleteJobQueue") < writes.index("DeregisterJobDefinition")
    roles = [at for at, name in enumerate(writes) if name == "DeleteRole"]
    assert sum(at > writes.index("DeregisterJobDefinition") for at in roles) >= 2, "those of jobs and of ECS"
    assert min(roles) > writes.index("DeleteInstanceProfile")
    left = acct.dump()
    assert [kind for kind, found in left.items() if found] == ["buckets"]
    assert list(left["buckets"]) == ["photos"]


def test_a_function_that_never_had_jobs_costs_no_call_to_batch(acct: Account) -> None:
    init(acct.aws, function())
    init(acct.aws, function(memory=1024))
    rm(acct.aws)
    assert _batch(acct.wire.calls) == []


def test_jobs_that_have_not_finished_refuse_a_removal_before_anything_goes(acct: Account) -> None:
    """T1-23. More than a page of them, in every state that a job can be in before its end."""
    init(acct.aws, batch_function())
    for status in ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING", "RUNNING", "RUNNING"):
        _job(acct, status=status)
    for status in ("SUCCEEDED", "FAILED"):
        _job(acct, status=status)
    before, found = acct.dump(), owned(acct.aws, "grayify")
    acct.wire.clear()
    with pytest.raises(ConflictError) as caught:
        refuse_unfinished(acct.aws, "grayify", found)
    assert caught.value.exit_code == 5
    assert "7 jobs have not finished: scar-grayify-1 (SUBMITTED)" in str(caught.value)
    assert "and 2 more" in str(caught.value)
    assert "scar jobs -n grayify" in str(caught.value)
    assert "scar rm -n grayify --stop-jobs" in str(caught.value)
    assert (acct.wire.writes, acct.dump()) == ([], before)


def test_a_job_that_comes_after_the_refusal_was_thought_of_stops_the_queue_from_going(acct: Account) -> None:
    """Its queue, image, roles and log stay, and the mark by which the next `rm` finds them."""
    init(acct.aws, batch_function())
    plan = diff((), owned(acct.aws, "grayify"))
    job = _job(acct, status="RUNNABLE")
    with pytest.raises(ApplyError, match="1 job has not finished") as caught:
        apply(acct.aws, plan, Silent())
    assert caught.value.exit_code == ConflictError.exit_code
    left = acct.dump()
    assert left["functions"] == {}
    for kind in ("job queues", "compute environments", "job definitions", "instance profiles", "repositories"):
        assert len(left[kind]) == 1, kind
    assert len(left["roles"]) == 3, "of the job, of ECS, of the machines"
    acct.batch.jobs.all[0]["status"] = "SUCCEEDED"
    rm(acct.aws)
    assert [kind for kind, found in acct.dump().items() if found] == ["buckets"]
    assert acct.batch.jobs.status_of(job) == "SUCCEEDED"


@pytest.mark.parametrize("slow", [0, 20])
def test_jobs_that_are_to_be_stopped_are_ended_and_awaited_before_the_queue_goes(slow: int, acct: Account) -> None:
    make(acct.aws, batch_function())
    acct.batch.jobs.slow = slow
    jobs = [_job(acct, status=status) for status in ("RUNNING", "RUNNABLE", "RUNNING", "RUNNING")]
    done = _job(acct, status="SUCCEEDED")
    apply(acct.aws, diff((), stopping(owned(acct.aws, "grayify"))), Silent())
    assert sorted(job for job, _ in acct.batch.jobs.terminated) == sorted(jobs)
    assert {reason for _, reason in acct.batch.jobs.terminated} == {"scar rm -n grayify --stop-jobs"}
    assert acct.batch.jobs.status_of(done) == "SUCCEEDED"
    assert nothing(acct)


def test_of_a_shared_queue_only_the_functions_own_jobs_matter(acct: Account) -> None:
    for name in ("grayify", "grayify-2"):
        make(acct.aws, batch_function(name, batch={"shared": "gpu"}))
    theirs = _job(acct, "grayify-2", SHARED)
    mine = _job(acct, "grayify", SHARED)
    with pytest.raises(ConflictError, match="grayify: 1 job has not finished"):
        refuse_unfinished(acct.aws, "grayify", owned(acct.aws, "grayify"))
    with pytest.raises(ApplyError, match="1 job has not finished"):
        remove(acct.aws)
    apply(acct.aws, diff((), stopping(owned(acct.aws, "grayify"))), Silent())
    assert [job for job, _ in acct.batch.jobs.terminated] == [mine]
    assert acct.batch.jobs.status_of(theirs) == "RUNNING"
    assert list(dump(acct)["job queues"]) == [SHARED]


@pytest.mark.parametrize("order", [("one", "two"), ("two", "one")])
def test_a_shared_place_goes_with_the_last_function_whichever_that_is(order: tuple[str, str], acct: Account) -> None:
    for name in ("one", "two"):
        make(acct.aws, batch_function(name, batch={"shared": "gpu"}))
    made = dump(acct)
    assert (list(made["job queues"]), list(made["compute environments"]), len(made["profiles"])) == (
        [SHARED],
        [SHARED],
        1,
    )
    plan = diff((), owned(acct.aws, order[0]))
    stays = [str(step) for step in plan.steps if f"stays: {order[1]} uses it, too" in str(step)]
    assert len(stays) == 4, "the plan says so of queue, environment, profile and role"
    remove(acct.aws, order[0])
    left = dump(acct)
    assert {kind: left[kind] for kind in ("job queues", "compute environments", "profiles")} == {
        kind: made[kind] for kind in ("job queues", "compute environments", "profiles")
    }
    assert str(plan_of(acct.aws, batch_function(order[1], batch={"shared": "gpu"}))) == "nothing to do"
    remove(acct.aws, order[1])
    assert nothing(acct)


def test_of_two_that_leave_a_shared_place_at_once_nothing_is_left(acct: Account) -> None:
    """Each sees the other's mark while it plans."""
    for name in ("one", "two"):
        make(acct.aws, batch_function(name, batch={"shared": "gpu"}))
    plans = [diff((), owned(acct.aws, name)) for name in ("one", "two")]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda plan: apply(acct.aws, plan, Silent()), plans))
    left = dump(acct)
    assert not any(left[kind] for kind in ("job queues", "compute environments", "profiles", "roles"))


def test_who_finds_another_in_a_shared_place_leaves_everything_to_that_one(acct: Account) -> None:
    """Also what it comes to after the other has left: the other takes it away, in its own order."""
    for name in ("one", "two"):
        make(acct.aws, batch_function(name, batch={"shared": "gpu"}))
    one, two = Leaving(SHARED, "one"), Leaving(SHARED, "two")
    assert (one.stays(acct.aws), two.stays(acct.aws), one.stays(acct.aws)) == (True, False, True)
    assert not Leaving(SHARED, "one").stays(acct.aws), "after a crash, whoever comes next finishes"


def test_two_inits_at_once_make_one_of_everything(acct: Account) -> None:
    fn = batch_function()
    init(acct.aws, function("first", inputs=("photos/first",)))  # the buckets are not what this is about
    plans = [plan_of(acct.aws, fn) for _ in range(2)]
    together = threading.Barrier(2)

    def run(index: int) -> None:
        together.wait()
        apply(acct.aws, plans[index], Silent())

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, range(2)))
    assert not plan_of(acct.aws, fn)
    found = dump(acct)
    assert (list(found["compute environments"]), list(found["job queues"])) == ([PLACE], [PLACE])


def test_a_mode_without_jobs_takes_what_was_in_batch_away_and_the_way_back_makes_it_again(acct: Account) -> None:
    """CL3. The log of the jobs that were stays until the function goes."""
    init(acct.aws, batch_function())
    with_jobs = acct.dump()
    init(acct.aws, function())
    without = acct.dump()
    for kind in ("job queues", "compute environments", "job definitions", "instance profiles", "invoke", "rules"):
        assert without[kind] == {}, kind
    assert len(without["roles"]) == 1
    assert set(without["log groups"]) == {"/aws/lambda/grayify", "/aws/batch/job/grayify"}
    assert not plan_init(acct.aws, function())
    init(acct.aws, batch_function())
    assert acct.dump() == with_jobs
    init(acct.aws, function())
    rm(acct.aws)
    assert [kind for kind, found in acct.dump().items() if found] == ["buckets"]


@pytest.mark.parametrize("journey", ["made", "taken away"])
def test_the_way_back_of_failed_events_is_whole_after_a_death_at_any_of_its_calls(journey: str, acct: Account) -> None:
    """CL1: the rule, its target, the leave to invoke, and the destination; and that none of them is left."""
    fn = batch_function() if journey == "made" else function()

    def before() -> None:
        acct.reset()
        init(acct.aws, function() if journey == "made" else batch_function())
        acct.wire.clear()

    before()
    init(acct.aws, fn, threads=1)
    wanted, calls = acct.dump(), list(acct.wire.calls)
    assert (len(wanted["rules"]), len(wanted["invoke"])) == ((1, 1) if journey == "made" else (0, 0))
    of_it = ("AddPermission", "RemovePermission", "PutFunctionEventInvokeConfig", "DeleteFunctionEventInvokeConfig")
    deaths = [
        at
        for at, (service, name) in enumerate(calls, 1)
        if name in of_it or (service == "events" and not name.startswith(READS))
    ]
    assert len(deaths) >= 4
    for at in deaths:
        before()
        acct.wire.plant(at, "before", killed)
        with suppress(Killed):
            init(acct.aws, fn, threads=1)
        acct.wire.clear()
        init(acct.aws, fn)
        assert acct.dump() == wanted, calls[at - 1]


def test_a_mode_without_jobs_waits_for_those_that_have_not_finished(acct: Account) -> None:
    init(acct.aws, batch_function())
    job = _job(acct)
    with pytest.raises(ApplyError, match="1 job has not finished"):
        init(acct.aws, function())
    left = acct.dump()
    assert list(left["job queues"]) == [PLACE]
    assert acct.batch.jobs.status_of(job) == "RUNNING"
    # A running job reads and writes with its role, and is read about in its definition.
    assert {f"scar-grayify.{whose}-eu-west-1" for whose in ("job", "ecs", "ec2")} <= set(left["roles"])
    assert left["job definitions"]


def test_other_machines_are_another_place_and_the_old_one_goes(acct: Account) -> None:
    make(acct.aws, batch_function())
    make(acct.aws, batch_function(batch={"type": "FARGATE", "memory": 2048}))
    assert list(dump(acct)["compute environments"]) == [f"{PLACE}-fargate"]
    assert not plan_of(acct.aws, batch_function(batch={"type": "FARGATE", "memory": 2048}))
    remove(acct.aws)
    assert nothing(acct)


def test_another_definition_replaces_the_old_ones_after_the_function_knows_it(acct: Account) -> None:
    init(acct.aws, batch_function())
    (old,) = acct.batch.dump()["job definitions"]
    other = f"scar-grayify-2-{'0' * 16}"  # of a function whose name begins alike
    for index in range(120):
        acct.batch.service.handle("123456789012", "eu-west-1", "registerjobdefinition", _definition(f"theirs-{index}"))
    acct.batch.service.handle("123456789012", "eu-west-1", "registerjobdefinition", _definition(other))
    acct.wire.clear()
    init(acct.aws, batch_function(batch={"memory": 4096}))
    kept = set(acct.batch.dump()["job definitions"])
    assert old not in kept
    assert other in kept
    assert len(kept) == 122
    order = [name for name in _writes(acct) if name in ("RegisterJobDefinition", "UpdateFunctionConfiguration", "DeregisterJobDefinition")]  # fmt: skip
    assert order == ["RegisterJobDefinition", "UpdateFunctionConfiguration", "DeregisterJobDefinition"]
    assert not plan_init(acct.aws, batch_function(batch={"memory": 4096}))


def _definition(name: str) -> bytes:
    container = '{"image":"i","resourceRequirements":[{"type":"VCPU","value":"1"},{"type":"MEMORY","value":"4"}]}'
    return f'{{"jobDefinitionName":"{name}","type":"container","containerProperties":{container}}}'.encode()


def test_a_change_is_told_field_by_field_and_made_in_place(acct: Account) -> None:
    make(acct.aws, batch_function())
    fn = batch_function(batch={"max_v_cpus": 8, "subnets": SUBNETS, "priority": 4})
    told = str(plan_of(acct.aws, fn))
    assert "~ compute environment scar-grayify  max_vcpus: 2 → 8, subnets: +subnet-0c3" in told
    assert "~ job queue scar-grayify  priority: 1 → 4" in told
    acct.wire.clear()
    make(acct.aws, fn)
    assert [name for name in _batch(acct.wire.writes) if "Definition" not in name] == [
        "UpdateComputeEnvironment",
        "UpdateJobQueue",
    ]
    assert not plan_of(acct.aws, fn)


def test_tags_follow_the_definition(acct: Account) -> None:
    make(acct.aws, batch_function(tags={"team": "a", "cost": "1"}))
    edited = batch_function(tags={"team": "b"})
    make(acct.aws, edited)
    assert not plan_of(acct.aws, edited)
    found = acct.batch.dump()
    for kind in ("compute environments", "job queues", "job definitions"):
        (one,) = found[kind].values()
        tags = {key: value for key, value in one["tags"].items() if key != "scar:version"}
        assert tags == {"team": "b", "createdby": "scar", "scar:function": "grayify"}, kind


def test_what_batch_wants_by_itself_is_no_difference(acct: Account) -> None:
    make(acct.aws, batch_function())
    acct.batch.region.environments[PLACE].desired_vcpus = 2
    assert not plan_of(acct.aws, batch_function())


def test_what_aws_never_changes_is_a_conflict_of_the_plan(acct: Account) -> None:
    make(acct.aws, batch_function(batch={"type": "FARGATE", "memory": 2048}))
    with pytest.raises(ConflictError, match="FARGATE never becomes one of type FARGATE_SPOT"):
        plan_of(acct.aws, batch_function(batch={"type": "FARGATE_SPOT", "memory": 2048}))


def _foreign(acct: Account, what: str) -> None:
    acct.aws.batch.create_compute_environment(
        computeEnvironmentName=PLACE, type="MANAGED",
        computeResources={"type": "FARGATE", "maxvCpus": 1, "subnets": ["subnet-0a1"], "securityGroupIds": ["sg-0d4"]},
    )  # fmt: skip
    acct.clock.sleep(10)
    if what == "job queue":
        acct.aws.batch.create_job_queue(
            jobQueueName=PLACE, priority=1, computeEnvironmentOrder=[{"order": 1, "computeEnvironment": PLACE}]
        )
        acct.clock.sleep(10)


@pytest.mark.parametrize("what", ["compute environment", "job queue"])
def test_what_is_called_as_ours_and_is_not_is_never_touched(what: str, acct: Account) -> None:
    _foreign(acct, what)
    before = dump(acct)
    with pytest.raises(ConflictError, match="not made by scar"):
        make(acct.aws, batch_function())
    remove(acct.aws)
    assert dump(acct)["compute environments"] == before["compute environments"]
    assert dump(acct)["job queues"] == before["job queues"]


BY_HAND = ["job queue", "compute environment", "definition", "profile", "mark", "state bucket"]


def _by_hand(acct: Account, kind: str) -> None:
    region, aws = acct.batch.region, acct.aws
    match kind:
        case "job queue" | "compute environment":
            region.queues.clear()
            if kind == "compute environment":
                region.environments.clear()
        case "definition":
            region.definitions.clear()
        case "profile":
            profile = f"{PLACE}.ec2-eu-west-1"
            aws.iam.remove_role_from_instance_profile(InstanceProfileName=profile, RoleName=profile)
            aws.iam.delete_instance_profile(InstanceProfileName=profile)
        case "mark":
            aws.s3.delete_object(Bucket=f"scar-state-{aws.account}-eu-west-1", Key="members/grayify")
        case "state bucket":
            bucket = f"scar-state-{aws.account}-eu-west-1"
            for item in aws.s3.list_objects_v2(Bucket=bucket)["Contents"]:
                aws.s3.delete_object(Bucket=bucket, Key=item["Key"])
            aws.s3.delete_bucket(Bucket=bucket)


@pytest.mark.parametrize("kind", BY_HAND)
def test_after_any_one_thing_was_deleted_by_hand_rm_works_and_init_repairs(kind: str, acct: Account) -> None:
    """CL6; also without the mark that tells of Batch."""
    make(acct.aws, batch_function())
    made = dump(acct)
    _by_hand(acct, kind)
    make(acct.aws, batch_function())
    assert dump(acct) == made
    _by_hand(acct, kind)
    remove(acct.aws)
    assert nothing(acct)


def test_an_environment_that_turned_invalid_is_said_to_be_so_and_can_be_removed(acct: Account) -> None:
    """BA10, later: its profile was taken away; init puts it back, and the environment is VALID again."""
    make(acct.aws, batch_function())
    made = dump(acct)
    _by_hand(acct, "profile")
    acct.aws.batch.update_compute_environment(computeEnvironment=PLACE, state="ENABLED")
    acct.clock.sleep(10)
    assert "status: INVALID → VALID" in str(plan_of(acct.aws, batch_function()))
    make(acct.aws, batch_function())
    assert dump(acct) == made
    _by_hand(acct, "profile")
    acct.aws.batch.update_compute_environment(computeEnvironment=PLACE, state="ENABLED")
    acct.clock.sleep(10)
    remove(acct.aws)
    assert nothing(acct)


def test_an_environment_that_cannot_be_valid_ends_init_with_its_reason_and_can_be_removed(acct: Account) -> None:
    """BA10, in creation: no queue, no function, exit code 1."""
    fn = batch_function(batch={"subnets": ("subnet-0f9",)})
    with pytest.raises(ScarError, match="INVALID; Batch says: CLIENT_ERROR - no such subnet") as caught:
        init(acct.aws, fn)
    assert caught.value.exit_code == 1
    left = acct.dump()
    assert (left["job queues"], left["functions"]) == ({}, {})
    repaired = batch_function()
    init(acct.aws, repaired)
    assert not plan_init(acct.aws, repaired)
    make(acct.aws, repaired)
    rm(acct.aws)
    assert [kind for kind, found in acct.dump().items() if found] == ["buckets"]


def test_the_state_bucket_says_where_a_function_was_in_batch(acct: Account) -> None:
    make(acct.aws, batch_function())
    make(acct.aws, batch_function(batch={"shared": "gpu"}))
    state = owned(acct.aws, "grayify")[Id("state bucket", f"scar-state-{acct.aws.account}-eu-west-1")]
    assert dict(state.batch) == {PLACE: "", SHARED: "gpu"}  # type: ignore[attr-defined]  # a StateBucket
