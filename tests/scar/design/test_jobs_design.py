"""A function whose runs may be jobs becomes resources: golden documents for each kind of machines, and who may do what."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from faassupervisor import contract, hops
from scar.aws import names
from scar.aws.network import Network
from scar.aws.resources.batch_share import BatchShare
from scar.aws.resources.code import ImageCode, ZipCode
from scar.aws.resources.compute_environment import ComputeEnvironment
from scar.aws.resources.failure_rule import FailureRule
from scar.aws.resources.function import LambdaFunction
from scar.aws.resources.instance_profile import InstanceProfile
from scar.aws.resources.invoke_config import InvokeConfig
from scar.aws.resources.job_definition import JobDefinition
from scar.aws.resources.job_queue import JobQueue
from scar.aws.resources.log_group import LogGroup
from scar.aws.resources.repository import ImageVersion
from scar.aws.resources.role import Role
from scar.aws.resources.state_bucket import StateBucket
from scar.design import Site, ZipAndJobImage, design, iam
from scar.design.sizes import BY_REFERENCE, REFUSED, sizes
from scar.errors import UsageError
from scar.fdl.load import validate
from scar.fdl.model import Function, Iam
from scar.package.spec import spec_of
from scar.plan.diff import ordered
from scar.plan.resource import Id, Resource
from tests.support.account import FakeImage, FakeZip, function

GOLDEN = Path(__file__).parent / "golden"
SITE = Site(
    "123456789012",
    "eu-west-1",
    network=Network(("subnet-a", "subnet-b"), ("sg-default",), "vpc-1", public=True, default=True),
)
PLACES = (ComputeEnvironment, JobQueue, JobDefinition, InstanceProfile, BatchShare)


def fn(batch: dict[str, Any] | None = None, mode: str = "batch", **settings: Any) -> Function:
    """As a definition file would have it."""
    container = {"image": "scratch"}
    section = {"name": "grayify", "execution_mode": mode, "container": container, **settings}
    section |= {"input": [{"path": "photos/in"}], "output": [{"path": "photos/out"}]}
    (found,) = validate({"functions": {"aws": [{"lambda": section, "batch": batch or {}}]}}).functions
    return found


def made(function: Function, site: Site = SITE, image: Any = None) -> tuple[Resource, ...]:
    return design(function, site, image or FakeImage())


def one(kind: type[Any], resources: Iterable[Any]) -> Any:
    (found,) = [item for item in resources if isinstance(item, kind)]
    return found


def request(resources: Iterable[Any]) -> Any:
    return json.loads(one(JobDefinition, resources).request)


def role(resources: Iterable[Any], name: str) -> Role:
    (found,) = [item for item in resources if isinstance(item, Role) and item.name == name]
    return found


def plain(resource: Any) -> dict[str, Any]:
    """A resource as a document: what is canonical JSON in it is spelled out, what is for the plan's reader only stays out."""
    found = {
        field.name: getattr(resource, field.name)
        for field in dataclasses.fields(resource)
        if field.compare and getattr(resource, field.name) not in (None, "", ())
    }
    for key in ("request", "policy", "trust"):
        if key in found:
            found[key] = json.loads(found[key])
    if dataclasses.is_dataclass(found.get("resources")):
        found["resources"] = dataclasses.asdict(found["resources"])
    if "time_limits" in found:
        found["time_limits"] = [dataclasses.asdict(limit) for limit in found["time_limits"]]
    return {"kind": resource.id.kind, **json.loads(json.dumps(found))}


EVERY_KEY = {
    "vcpus": 3,
    "memory": 2048,
    "enable_gpu": True,
    "timeout": 600,
    "attempts": 2,
    "state": "disabled",
    "priority": 7,
    "max_runnable_time": 900,
    "service_role": "arn:aws:iam::{account_id}:role/service-role/AWSBatchServiceRole",
    "environment": {"Variables": {"LEVEL": "high", "COUNT": 5}},
    "compute_resources": {
        "type": "EC2",
        "min_v_cpus": 2,
        "desired_v_cpus": 4,
        "max_v_cpus": 8,
        "instance_types": ["g5", "g4dn.xlarge"],
        "allocation_strategy": "BEST_FIT_PROGRESSIVE",
        "subnets": ["subnet-mine"],
        "security_group_ids": ["sg-mine"],
        "launch_template_name": "mine",
        "instance_role": "arn:aws:iam::{account_id}:instance-profile/ecsInstanceRole",
    },
}
CASES: dict[str, Function] = {
    "ec2": fn(),
    "spot": fn({"compute_resources": {"type": "SPOT", "min_v_cpus": 1}}),
    "fargate": fn({"vcpus": 0.5, "compute_resources": {"type": "FARGATE"}}),
    "fargate_spot_arm64": fn(
        {"vcpus": 2, "memory": 4096, "compute_resources": {"type": "FARGATE_SPOT"}}, architectures=["arm64"]
    ),
    "arm64": fn(architectures=["arm64"]),
    "every_key": fn(EVERY_KEY),
    "shared": fn({"shared": "lab"}),
    "unmanaged": fn({"type": "UNMANAGED", "service_role": "arn:aws:iam::123456789012:role/mine"}),
}


@pytest.mark.parametrize("name", CASES)
def test_the_resources_of_a_kind_of_machines_are_the_golden_ones(name: str) -> None:
    """T1-07: every key of the definition reaches the field that it is for."""
    found = [plain(item) for item in ordered(made(CASES[name])) if isinstance(item, PLACES)]
    text = json.dumps(found, indent=1) + "\n"
    assert text == (GOLDEN / f"jobs_{name}.json").read_text(), text


def test_roles_and_logs_are_the_golden_ones() -> None:
    found = [
        plain(item)
        for item in ordered(made(CASES["ec2"]))
        if isinstance(item, (Role, LogGroup, InvokeConfig, FailureRule))
    ]
    text = json.dumps(found, indent=1) + "\n"
    assert text == (GOLDEN / "jobs_roles.json").read_text(), text


@pytest.mark.parametrize("mode", ["batch", "lambda-batch"])
def test_both_modes_are_made_of_the_same_things(mode: str) -> None:
    kinds = sorted(resource.id.kind for resource in made(fn(mode=mode)))
    assert kinds == sorted(
        [
            "log group", "log group", "repository", "image", "state bucket", "role", "role", "role", "role", "instance profile",
            "compute environment", "job queue", "job definition", "function", "failure rule", "invoke config", "bucket", "permission", "notification",
        ]
    )  # fmt: skip


def test_a_function_without_jobs_has_nothing_of_batch() -> None:
    """T1-01"""
    resources = made(fn(mode="lambda"))
    assert {resource.id.kind for resource in resources} == {
        "log group", "repository", "image", "state bucket", "role", "function", "bucket", "permission", "notification",
    }  # fmt: skip
    assert "batch" not in one(Role, resources).policy
    assert one(StateBucket, resources).batch == ()


@pytest.mark.parametrize("name", CASES)
def test_whatever_keeps_or_uses_something_comes_after_it(name: str) -> None:
    order = [resource.id for resource in ordered(made(CASES[name]))]
    kinds = [each.kind for each in order]
    function_at = kinds.index("function")
    for kind in ("compute environment", "job queue", "job definition", "state bucket"):
        assert kinds.index(kind) < function_at
    assert kinds.index("state bucket") < kinds.index("compute environment") < kinds.index("job queue")
    assert kinds.index("image") < kinds.index("job definition")
    assert kinds.index("invoke config") > function_at
    for marking in [at for at, kind in enumerate(kinds) if kind == "share"]:
        assert kinds.index("state bucket") < marking < kinds.index("compute environment")
    if "instance profile" in kinds:
        assert kinds.index("instance profile") < kinds.index("compute environment")


def test_the_function_is_told_where_its_state_and_its_jobs_are() -> None:
    resources = made(fn())
    told = dict(one(LambdaFunction, resources).environment)
    assert told == {
        contract.STATE: "s3://scar-state-123456789012-eu-west-1/functions/grayify/",
        contract.JOB_QUEUE: one(JobQueue, resources).name,
        contract.JOB_DEFINITION: one(JobDefinition, resources).name,
    }
    alone = dict(one(LambdaFunction, made(fn(mode="lambda"))).environment)
    assert alone == {contract.STATE: told[contract.STATE]}


def test_what_lambda_gives_up_on_comes_back_to_the_function() -> None:
    """By the default event bus: Lambda takes no function as its own destination."""
    resources = made(fn())
    rule, told = one(FailureRule, resources), one(InvokeConfig, resources)
    assert told.on_failure == "arn:aws:events:eu-west-1:123456789012:event-bus/default"
    assert rule.function_arn == one(LambdaFunction, resources).arn
    assert told.needs == (Id("function", "grayify"), rule.id)
    long = one(FailureRule, made(fn(name="x" * 64)))
    other = one(FailureRule, made(fn(name="x" * 63)))
    assert re.fullmatch(r"[\w.-]{1,64}", long.name)  # botocore events:RuleName
    assert long.name != other.name


def test_a_job_runs_the_functions_own_image_by_a_tag_that_never_moves() -> None:
    resources = made(fn())
    tagged = request(resources)["containerProperties"]["image"]
    digest = one(ImageVersion, resources).digest
    assert tagged == f"123456789012.dkr.ecr.eu-west-1.amazonaws.com/scar/grayify:{digest[7:39]}"
    # botocore batch:ContainerProperties.image names no `@` among its characters
    assert re.fullmatch(r"[A-Za-z0-9_:./#-]{1,255}", tagged)


def test_another_content_is_another_definition_and_the_same_is_the_same() -> None:
    name = one(JobDefinition, made(fn())).name
    assert name == one(JobDefinition, made(fn())).name
    assert names.is_job_definition_of("grayify", name)
    others = [
        fn({"memory": 2048}),
        fn({"timeout": 61}),
        fn({"environment": {"Variables": {"A": "b"}}}),
        fn({"vcpus": 2}),
    ]
    found = {one(JobDefinition, made(other)).name for other in others}
    assert len(found | {name}) == len(others) + 1
    assert one(JobDefinition, made(fn(), image=FakeImage("other"))).name != name


def test_a_job_is_started_again_only_when_its_machine_was_lost() -> None:
    rules = request(made(fn()))["retryStrategy"]
    assert rules["attempts"] == 3
    assert len(rules["evaluateOnExit"]) <= 5  # botocore batch:RetryStrategy.evaluateOnExit

    def action(status_reason: str) -> str:
        """As Batch decides: the first rule that fits, and RETRY without any."""
        for rule in rules["evaluateOnExit"]:
            pattern = rule.get("onStatusReason") or rule.get("onReason")
            if status_reason == pattern or (pattern.endswith("*") and status_reason.startswith(pattern[:-1])):
                return str(rule["action"])
        return "RETRY"

    assert action("Host EC2 (instance i-0abc) terminated.") == "RETRY"
    assert action("Your Spot Task was interrupted.") == "RETRY"
    assert action("Essential container in task exited") == "EXIT"
    assert action("Job attempt duration exceeded timeout") == "EXIT"
    assert action("") == "EXIT"


def test_a_public_address_is_given_only_in_subnets_that_we_chose_and_that_need_one() -> None:
    asked = {"vcpus": 1, "memory": 2048, "compute_resources": {"type": "FARGATE"}}
    own = {
        **asked,
        "compute_resources": {"type": "FARGATE", "subnets": ["subnet-mine"], "security_group_ids": ["sg-mine"]},
    }
    private = replace(SITE, network=Network(("subnet-a",), ("sg-default",), "vpc-1", default=True))

    def address(function: Function, site: Site) -> str:
        properties = request(made(function, site))["containerProperties"]
        return str(properties["networkConfiguration"]["assignPublicIp"])

    assert address(fn(asked), SITE) == "ENABLED"
    assert address(fn(asked), private) == "DISABLED"
    assert address(fn(own), replace(SITE, network=None)) == "DISABLED"
    assert "networkConfiguration" not in request(made(fn()))["containerProperties"]


def test_jobs_without_a_network_are_refused() -> None:
    with pytest.raises(UsageError, match="no default VPC"):
        made(fn(), replace(SITE, network=None))


def test_a_role_that_is_given_is_the_functions_and_jobs_still_have_their_own() -> None:
    found = [
        item.name
        for item in made(replace(fn(), iam=Iam(role="arn:aws:iam::123456789012:role/mine")))
        if isinstance(item, Role)
    ]
    assert sorted(found) == ["scar-grayify.ec2-eu-west-1", "scar-grayify.ecs-eu-west-1", "scar-grayify.job-eu-west-1"]


def test_the_role_of_a_functions_jobs_is_never_that_of_another_function() -> None:
    taken = {names.role(other, "eu-west-1") for other in ("grayify-job", "grayify-ecs", "grayify-ec2", "grayify")}
    mine = {item.name for item in made(fn()) if isinstance(item, Role)} - {names.role("grayify", "eu-west-1")}
    assert len(mine) == 3
    assert not mine & taken


def test_functions_of_one_label_design_the_same_place_whatever_their_own_tags_are() -> None:
    one_, other = (
        {item.id: item for item in made(fn({"shared": "lab"}, name=name, tags={"team": name}))}
        for name in ("one", "other")
    )
    shared = {Id("compute environment", "scar-shared-lab"), Id("job queue", "scar-shared-lab")}
    assert shared <= one_.keys() & other.keys()
    for each in shared:
        assert (one_[each].tags, one_[each].shared) == (other[each].tags, other[each].shared)  # type: ignore[attr-defined]


def test_the_old_launch_template_is_dropped_and_another_is_taken() -> None:
    def template(name: str) -> Any:
        return one(
            ComputeEnvironment, made(fn({"compute_resources": {"launch_template_name": name}}))
        ).resources.launch_template

    assert template("faas-supervisor") is None
    assert template("mine") == "mine"


def test_a_zip_function_has_an_image_beside_it_for_its_jobs() -> None:
    resources = made(fn(runtime="python3.13"), image=ZipAndJobImage(FakeZip(), FakeImage()))
    assert one(LambdaFunction, resources).code == ZipCode(FakeZip().sha256)
    assert one(ImageVersion, resources).digest == FakeImage().digest
    assert f":{FakeImage().digest[7:39]}" in request(resources)["containerProperties"]["image"]


@dataclasses.dataclass(frozen=True)
class Prepared:
    uri_by_digest: str = f"999999999999.dkr.ecr.us-east-1.amazonaws.com/team/app@sha256:{'0' * 64}"


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        (":1.0", ":1.0"),
        (f":1.0@sha256:{'0' * 64}", ":1.0"),
        (f"@sha256:{'0' * 64}", f"@sha256:{'0' * 64}"),
        ("", ""),
    ],
)
def test_jobs_of_a_prepared_image_run_it_by_the_name_that_the_user_gave_it(written: str, asked: str) -> None:
    image = "999999999999.dkr.ecr.us-east-1.amazonaws.com/team/app"
    resources = made(fn(container={"image": image + written, "create_image": False}), image=Prepared())
    assert request(resources)["containerProperties"]["image"] == image + asked
    assert one(LambdaFunction, resources).code == ImageCode(Prepared().uri_by_digest)
    pull = statements(role(resources, "scar-grayify.ecs-eu-west-1").policy)["PullImage"]
    assert pull["Resource"] == ["arn:aws:ecr:us-east-1:999999999999:repository/team/app"]


# Who may do what


def statements(document: str | None) -> dict[str, dict[str, Any]]:
    assert document is not None
    return {item["Sid"]: item for item in json.loads(document)["Statement"]}


def test_only_what_knows_no_resources_is_allowed_on_all_of_them() -> None:
    everything = {
        (sid, action)
        for item in made(fn())
        if isinstance(item, Role) and item.policy is not None
        for sid, statement in statements(item.policy).items()
        if "*" in statement["Resource"]
        for action in statement["Action"]
    }
    assert everything == {
        ("FindJobs", "batch:ListJobs"),
        ("LogIn", "ecr:GetAuthorizationToken"),
    }


def test_a_function_hands_over_to_its_own_queue_and_definitions_only() -> None:
    resources = made(fn())
    policy = json.loads(str(role(resources, "scar-grayify-eu-west-1").policy))
    arn = "arn:aws:batch:eu-west-1:123456789012"
    definition = one(JobDefinition, resources).name
    assert allows(policy, "batch:SubmitJob", f"{arn}:job-queue/scar-grayify")
    assert allows(policy, "batch:SubmitJob", f"{arn}:job-definition/{definition}")
    assert allows(policy, "batch:SubmitJob", f"{arn}:job-definition/{definition}:1")
    assert allows(policy, "events:PutEvents", "arn:aws:events:eu-west-1:123456789012:event-bus/default")
    for action, resource in (
        ("batch:SubmitJob", f"{arn}:job-queue/scar-other"),
        ("batch:SubmitJob", f"{arn}:job-definition/scar-grayify-more-{'0' * 16}"),
        ("batch:SubmitJob", f"{arn}:job-definition/scar-grayify"),
        ("batch:TerminateJob", f"{arn}:job/x"),
        ("events:PutEvents", "arn:aws:events:eu-west-1:123456789012:event-bus/other"),
        ("lambda:InvokeFunction", "arn:aws:lambda:eu-west-1:123456789012:function:grayify"),
        ("iam:PassRole", "arn:aws:iam::123456789012:role/scar-grayify.job-eu-west-1"),
    ):
        assert not allows(policy, action, resource), (action, resource)


def test_a_job_may_do_with_files_what_the_function_may_and_nothing_else() -> None:
    mine, jobs = (
        statements(role(made(fn()), name).policy) for name in ("scar-grayify-eu-west-1", "scar-grayify.job-eu-west-1")
    )
    assert jobs == {sid: mine[sid] for sid in ("ReadInputs", "WriteOutputs", "OwnState")}


def test_ecs_may_pull_this_image_and_write_this_log() -> None:
    policy = json.loads(str(role(made(fn()), "scar-grayify.ecs-eu-west-1").policy))
    repository = "arn:aws:ecr:eu-west-1:123456789012:repository/scar/"
    group = "arn:aws:logs:eu-west-1:123456789012:log-group:/aws/batch/job/"
    assert allows(policy, "ecr:BatchGetImage", f"{repository}grayify")
    assert allows(policy, "logs:PutLogEvents", f"{group}grayify:log-stream:grayify/default/1")
    assert not allows(policy, "ecr:BatchGetImage", f"{repository}other")
    assert not allows(policy, "ecr:PutImage", f"{repository}grayify")
    assert not allows(policy, "logs:PutLogEvents", f"{group}other:log-stream:x")
    assert not allows(policy, "s3:GetObject", "arn:aws:s3:::photos/in/a.jpg")


@pytest.mark.parametrize(
    ("name", "service"),
    [
        ("scar-grayify-eu-west-1", "lambda"),
        ("scar-grayify.job-eu-west-1", "ecs-tasks"),
        ("scar-grayify.ecs-eu-west-1", "ecs-tasks"),
        ("scar-grayify.ec2-eu-west-1", "ec2"),
    ],
)
def test_a_role_is_taken_on_by_its_service(name: str, service: str) -> None:
    (trust,) = json.loads(role(made(fn()), name).trust)["Statement"]
    assert trust["Principal"] == {"Service": f"{service}.amazonaws.com"}


def test_machines_have_awss_own_policy_and_none_of_ours() -> None:
    machines = role(made(fn()), "scar-grayify.ec2-eu-west-1")
    assert machines.policy is None
    assert machines.attached == ("arn:aws:iam::aws:policy/service-role/AmazonEC2ContainerServiceforEC2Role",)
    china = replace(SITE, partition="aws-cn")
    assert iam.ecs_instance_policy(china).startswith("arn:aws-cn:iam::aws:policy/")


def allows(policy: dict[str, Any], action: str, resource: str) -> bool:
    return any(
        action in statement["Action"] and any(matches(pattern, resource) for pattern in statement["Resource"])
        for statement in policy["Statement"]
        if statement["Effect"] == "Allow"
    )


def matches(pattern: str, resource: str) -> bool:
    """IAM's wildcards, of which neither stops at a colon."""
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), resource) is not None


# How much fits where (T1-17)


def with_variables(size: int) -> Function:
    """`batch.environment` of about so many bytes in a request."""
    return fn({"environment": {"Variables": {f"V{number}": "x" * 1000 for number in range(size // 1040)}}})


def test_a_definition_that_batch_would_not_take_is_refused_before_any_call() -> None:
    made(with_variables(20_000))
    with pytest.raises(UsageError) as refused:
        made(with_variables(24_000))
    assert re.search(r"job definition: the request has 2\d{4} bytes, the limit is 24576", refused.value.what)
    assert refused.value.where == "grayify: batch.environment"


def test_an_environment_that_lambda_would_not_take_is_refused_before_any_call() -> None:
    """The file's check cannot know the region: what it lets through by a few bytes is counted here."""
    own = len("SCAR_STATE" + "s3://scar-state-123456789012-us-east-1/functions/grayify/")
    fits = fn(mode="lambda", environment={"Variables": {"NAME": "x" * (4096 - 4 - own)}})
    made(fits, Site("123456789012", "us-east-1"))
    with pytest.raises(UsageError, match=r"names and values together, has 4101 bytes, the limit is 4096"):
        made(fits, Site("123456789012", "ap-southeast-2"))


def test_every_hop_is_told_with_its_limit_and_what_is_taken_already() -> None:
    function = fn()
    resources = made(function)
    found = {size.hop: size for size in sizes(function, resources)}
    assert tuple(found) == hops.HOPS
    assert found[hops.SYNC_INVOKE].taken is None
    told = dict(one(LambdaFunction, resources).environment)
    assert found[hops.LAMBDA_ENVIRONMENT].taken == sum(len(name) + len(value) for name, value in told.items())
    assert 1000 < (found[hops.JOB_DEFINITION].taken or 0) < 3000
    submit, overrides = found[hops.SUBMIT_JOB].taken or 0, found[hops.ECS_OVERRIDES].taken or 0
    assert 0 < overrides < submit < 1000
    assert found[hops.ECS_OVERRIDES].left == 8192 - 2048 - overrides


def test_what_is_too_large_goes_through_the_bucket_unless_that_is_forbidden() -> None:
    def larger(function: Function) -> dict[str, str]:
        return {size.hop.name: size.larger for size in sizes(function, made(function))}

    assert larger(fn()) == {
        "synchronous invocation": BY_REFERENCE,
        "asynchronous invocation": BY_REFERENCE,
        "Lambda environment": REFUSED,
        "job definition": REFUSED,
        "SubmitJob": BY_REFERENCE,
        "ECS overrides": BY_REFERENCE,
    }
    assert set(larger(fn(spill=False)).values()) == {REFUSED}
    assert list(larger(fn(mode="lambda"))) == [
        "synchronous invocation",
        "asynchronous invocation",
        "Lambda environment",
    ]


def test_the_agent_is_told_its_mode_and_whether_it_may_spill() -> None:
    spec = spec_of(fn(mode="lambda-batch", spill=False))
    assert (spec.mode, spec.spill) == ("lambda-batch", False)
    assert spec_of(fn()).spill
    assert spec_of(fn()).to_json() == spec_of(fn()).to_json()
    # What Batch runs on is not in the image: another size of jobs is no other image.
    assert spec_of(fn({"vcpus": 2, "environment": {"Variables": {"A": "b"}}})) == spec_of(fn())


def test_the_definition_of_a_test_is_that_of_a_file() -> None:
    """So that what is golden here is what a user gets."""
    assert function(execution_mode="batch").jobs == fn().jobs
