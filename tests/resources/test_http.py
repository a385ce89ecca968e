"""HTTP endpoints in an account: made by few calls, kept as they are wanted, whole after any fault, and gone with their function."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from moto.backends import get_backend

from scar.aws.endpoints import endpoints, endpoints_of
from scar.design import Site, http
from scar.errors import ConflictError, ScarError, TimedOutError, UsageError
from scar.fdl.model import ApiGateway, Function, FunctionUrl
from scar.local.services import dump, restore
from scar.plan.apply import Silent, apply
from scar.plan.diff import Plan, diff
from scar.plan.observe import observe
from scar.plan.owned import owned
from scar.plan.owned_http import KINDS, resources
from tests.support.account import ACCOUNT, READS, REGION, Account, Killed, function, killed, refused
from tests.support.deploying import init, plan_init, rm

ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:grayify"


def with_endpoints(api: ApiGateway | None = None, url: FunctionUrl | None = None, **more: Any) -> Function:
    return dataclasses.replace(function(**more), api_gateway=api, function_url=url)


OPEN = with_endpoints(ApiGateway(name="cow", auth="none"), FunctionUrl(auth="none"))
CLOSED = with_endpoints(ApiGateway(name="cow"), FunctionUrl())
KEYED = with_endpoints(ApiGateway(name="cow", auth="api_key"))
MOVED = with_endpoints(ApiGateway(name="calf", stage_name="prod", path_part="launch", http_method="POST"))


def _plan(acct: Account, fn: Function | None) -> Plan:
    """Of the endpoints alone: the rest of a function has its own tests."""
    wanted = () if fn is None else tuple(http.resources(fn, Site.of(acct.aws)))
    known = {resource.id for resource in wanted}
    strays = [resource for resource in resources(acct.aws, "grayify", KINDS) if resource.id not in known]
    return diff(wanted, observe(acct.aws, [*wanted, *strays], threads=1))


def _make(acct: Account, fn: Function | None) -> None:
    apply(acct.aws, _plan(acct, fn), Silent(), threads=1)


@pytest.fixture
def bare(acct: Account) -> Account:
    """A function of ours that has nothing else."""
    _bare(acct)
    return acct


def _bare(acct: Account) -> None:
    role = acct.aws.iam.create_role(RoleName="r", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    acct.aws.lambda_.create_function(
        FunctionName="grayify",
        Role=role,
        PackageType="Image",
        Code={"ImageUri": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/scar/grayify@sha256:{'0' * 64}"},
        Tags={"scar:function": "grayify", "scar:url": "none"},
    )
    acct.wire.clear()


def dump_http() -> dict[str, Any]:
    """All that there is of endpoints, without what AWS numbers."""
    of_apis = get_backend("apigateway")[ACCOUNT][REGION]
    known = get_backend("lambda")[ACCOUNT][REGION]._lambdas._functions
    latest = known["grayify"]["latest"] if "grayify" in known else None
    numbers = {api_id: f"api {number}" for number, api_id in enumerate(of_apis.apis)}
    apis = [
        {
            "name": api.name,
            "tags": {key: value for key, value in api.tags.items() if key != "scar:version"},
            "binary": api.binaryMediaTypes,
            "types": api.endpoint_configuration["types"],
            "routes": sorted(
                (
                    resource.get_path(),
                    name,
                    method.authorization_type,
                    bool(method.api_key_required),
                    method.method_integration.uri,
                )
                for resource in api.resources.values()
                for name, method in resource.resource_methods.items()
            ),
            "stages": {name: api.deployments[stage.deployment_id].description for name, stage in api.stages.items()},
        }
        for api in of_apis.apis.values()
    ]
    plans = [
        (
            plan.name,
            [(numbers[held["apiId"]], held["stage"]) for held in plan.api_stages],
            len(of_apis.usage_plan_keys[plan.id]),
        )
        for plan in of_apis.usage_plans.values()
    ]
    statements = json.dumps(sorted(latest.policy.statements, key=str)) if latest else ""
    for api_id, number in numbers.items():
        statements = statements.replace(api_id, number)
    url = latest.url_config.config["AuthType"] if latest and latest.url_config else None
    return {
        "apis": apis,
        "plans": plans,
        "keys": [key.name for key in of_apis.keys.values()],
        "policy": statements,
        "url": url,
    }


NOTHING = {"apis": [], "plans": [], "keys": [], "policy": "[]", "url": None}


def test_an_endpoint_is_closed_unless_the_definition_says_otherwise_and_openness_is_said_aloud(bare: Account) -> None:
    """AP7: signed requests by default; `none` is told by the plan before it is done."""
    lines = [str(step) for step in _plan(bare, CLOSED).steps]
    assert lines == [
        "+ rest api grayify  (callers sign their requests)",
        "+ function url grayify  (callers sign their requests)",
    ]
    _make(bare, CLOSED)
    (api,) = dump_http()["apis"]
    assert {route[2] for route in api["routes"]} == {"AWS_IAM"}
    assert (dump_http()["url"], api["types"], api["binary"]) == ("AWS_IAM", ["REGIONAL"], ["*/*"])
    public = "public: anyone on the internet can run it"
    assert [step.resource.aloud for step in _plan(bare, OPEN).steps] == [public, public]  # type: ignore[attr-defined]


def test_only_this_api_stage_and_method_may_invoke_the_function(bare: Account) -> None:
    _make(bare, MOVED)
    (statement,) = json.loads(dump_http()["policy"])
    assert statement["Principal"] == {"Service": "apigateway.amazonaws.com"}
    assert statement["Condition"] == {
        "ArnLike": {"AWS:SourceArn": f"arn:aws:execute-api:{REGION}:{ACCOUNT}:api 0/prod/POST/*"}
    }


def test_a_url_that_is_open_gives_everyone_both_permissions_that_aws_asks_for_and_no_more(bare: Account) -> None:
    """lambda/latest/dg/urls-auth: since October 2025 one is not enough."""
    _make(bare, with_endpoints(url=FunctionUrl(auth="none")))
    found = {one["Action"]: one["Condition"] for one in json.loads(dump_http()["policy"])}
    assert found == {
        "lambda:InvokeFunctionUrl": {"StringEquals": {"lambda:FunctionUrlAuthType": "NONE"}},
        "lambda:InvokeFunction": {"Bool": {"lambda:InvokedViaFunctionUrl": "true"}},
    }
    _make(bare, with_endpoints(url=FunctionUrl()))
    assert (dump_http()["policy"], dump_http()["url"]) == ("[]", "AWS_IAM")


def test_the_calls_are_few(bare: Account) -> None:
    """Eight writes for an API, three more for its key; a second look only reads."""
    _make(bare, KEYED)
    assert [name for _, name in bare.wire.writes] == [
        *("CreateRestApi", "PutMethod", "PutIntegration", "CreateResource", "PutMethod", "PutIntegration"),
        *("CreateDeployment", "AddPermission", "CreateApiKey", "CreateUsagePlan", "CreateUsagePlanKey"),
    ]
    bare.wire.clear()
    wanted = tuple(http.resources(KEYED, Site.of(bare.aws)))
    assert not diff(wanted, observe(bare.aws, wanted))
    assert (bare.wire.writes, len(bare.wire.calls)) == ([], 7)


def test_a_function_without_endpoints_asks_api_gateway_nothing(acct: Account) -> None:
    init(acct.aws, function())
    init(acct.aws, function())
    rm(acct.aws)
    assert "apigateway" not in {service for service, _ in acct.wire.calls}
    assert "GetFunctionUrlConfig" not in acct.wire.count()


@dataclasses.dataclass(frozen=True)
class Journey:
    """What was there, what is wanted, and the faults that are tried at each call that changes something."""

    name: str
    before: Function | None
    wanted: Function | None
    faults: tuple[tuple[str, Callable[[str], BaseException]], ...]


def lost(_: str) -> Exception:
    return ReadTimeoutError(endpoint_url="https://aws.example")


BOTH = with_endpoints(ApiGateway(name="cow", auth="api_key"), FunctionUrl(auth="none"))
KILLED = (("before", killed),)
JOURNEYS = [
    Journey("init", None, BOTH, (*KILLED, ("after", lost))),
    Journey("to a key", CLOSED, KEYED, KILLED),
    Journey("away from a key", KEYED, MOVED, KILLED),
    Journey("rm", BOTH, None, (("before", refused),)),
]


@pytest.mark.parametrize("journey", JOURNEYS, ids=lambda journey: journey.name)
def test_after_a_fault_at_any_call_the_same_command_finishes(journey: Journey, bare: Account) -> None:
    """AP10, CL1: resource, method, integration, deployment, permission, plan and key; refused, answer lost, killed."""
    if journey.before is not None:
        _make(bare, journey.before)
    began = {service: dump(service) for service in ("apigateway", "awslambda")}
    bare.wire.clear()
    _make(bare, journey.wanted)
    calls, wanted = list(bare.wire.calls), dump_http()
    assert (wanted == NOTHING) == (journey.wanted is None)
    for at in [at for at, (_, name) in enumerate(calls, 1) if not name.startswith(READS)]:
        for when, fault in journey.faults:
            adds = calls[at - 1][1].startswith(("Create", "Add"))
            if (fault is lost and not adds) or (journey.before is not None and (adds or "Put" in calls[at - 1][1])):
                continue  # what is sent again says the same; what adds something is tried by `init`
            for service, state in began.items():
                restore(service, state)
            bare.wire.plant(at, when, fault)
            with suppress(ScarError, Killed):
                _make(bare, journey.wanted)
            bare.wire.clear()
            _make(bare, journey.wanted)
            assert dump_http() == wanted, f"{journey.name}: call {at} {calls[at - 1]} {when} {fault.__name__}"
    assert not _plan(bare, journey.wanted)


@contextmanager
def _death_after(acct: Account, operation: str) -> Iterator[None]:
    """The process dies when it has heard the answer of one operation."""
    clients = (acct.aws.apigateway, acct.aws.lambda_)

    def die(model: Any, **_: Any) -> None:
        if model.name == operation:
            raise Killed

    for client in clients:
        client.meta.events.register("after-call", die)
    try:
        yield
    finally:
        for client in clients:
            client.meta.events.unregister("after-call", die)


def test_after_an_init_that_died_rm_leaves_nothing(acct: Account) -> None:
    """AP10, the whole function: the mark tells of endpoints before there are any."""
    for last in ("CreateDeployment", "CreateFunctionUrlConfig"):
        acct.reset()
        with _death_after(acct, last), suppress(Killed):
            init(acct.aws, BOTH, threads=1)
        assert dump_http() not in (NOTHING, {**NOTHING, "policy": ""}), last
        acct.wire.clear()
        rm(acct.aws, threads=1)
        assert dump_http() == {**NOTHING, "policy": ""}, last
        assert owned(acct.aws, "grayify") == {}


def _by_hand(acct: Account, what: str) -> None:
    aws = acct.aws
    backend = get_backend("apigateway")[ACCOUNT][REGION]
    (api_id,) = backend.apis
    match what:
        case "api":
            aws.apigateway.delete_rest_api(restApiId=api_id)
        case "stage":
            aws.apigateway.delete_stage(restApiId=api_id, stageName="scar")
        case "key":
            aws.apigateway.delete_api_key(apiKey=next(iter(backend.keys)))
        case "plan":
            (plan,) = aws.apigateway.get_usage_plans()["items"]
            away = [{"op": "remove", "path": "/apiStages", "value": f"{api_id}:scar"}]
            aws.apigateway.update_usage_plan(usagePlanId=plan["id"], patchOperations=away)
            aws.apigateway.delete_usage_plan(usagePlanId=plan["id"])
        case "method":
            root = next(
                one["id"] for one in aws.apigateway.get_resources(restApiId=api_id)["items"] if one["path"] == "/"
            )
            aws.apigateway.delete_method(restApiId=api_id, resourceId=root, httpMethod="ANY")
        case "permission":
            aws.lambda_.remove_permission(FunctionName="grayify", StatementId="scar-api-gateway")
        case "deployment":
            aws.apigateway.create_deployment(restApiId=api_id, stageName="scar", description="mine")
        case "media types":
            remove = [{"op": "remove", "path": "/binaryMediaTypes/*~1*"}]
            aws.apigateway.update_rest_api(restApiId=api_id, patchOperations=remove)


@pytest.mark.parametrize("what", ["api", "stage", "key", "plan", "method", "permission", "deployment", "media types"])
def test_what_was_changed_by_hand_is_put_right_or_goes(what: str, bare: Account) -> None:
    _make(bare, KEYED)
    wanted = dump_http()
    _by_hand(bare, what)
    _make(bare, KEYED)
    assert dump_http() == wanted
    if what in {"api", "key", "plan"}:
        _by_hand(bare, what)
        _make(bare, None)
        assert dump_http() == NOTHING


def test_two_apis_made_by_two_commands_at_once_become_one(bare: Account) -> None:
    _make(bare, CLOSED)
    wanted = dump_http()
    said = {"scar:function": "grayify", "scar:stage": "scar", "scar:auth": "iam"}
    bare.aws.apigateway.create_rest_api(name="cow", tags=said, endpointConfiguration={"types": ["REGIONAL"]})
    _make(bare, CLOSED)
    assert dump_http() == wanted


def test_an_api_of_the_same_name_that_is_not_ours_is_left_alone(bare: Account) -> None:
    bare.aws.apigateway.create_rest_api(name="cow")
    _make(bare, CLOSED)
    _make(bare, None)
    assert [api["tags"] for api in dump_http()["apis"]] == [{}]


def test_when_api_gateway_is_busy_it_is_asked_again_but_not_for_ever(bare: Account) -> None:
    """F38 of the reports on SCAR 4: throttled, it called itself until Python gave up."""
    asked = 0

    def throttle(model: Any, **_: Any) -> None:
        nonlocal asked
        asked += 1
        if asked < 4 or patience == 0:
            raise ClientError({"Error": {"Code": "TooManyRequestsException", "Message": "slow down"}}, model.name)

    patience = 1
    bare.aws.apigateway.meta.events.register("before-call.api-gateway.CreateRestApi", throttle)
    _make(bare, CLOSED)
    assert (asked, len(dump_http()["apis"])) == (4, 1)
    _make(bare, None)
    asked, patience = 0, 0
    with pytest.raises(ScarError) as caught:
        _make(bare, CLOSED)
    assert caught.value.exit_code == TimedOutError.exit_code
    bare.aws.apigateway.meta.events.unregister("before-call.api-gateway.CreateRestApi", throttle)


def test_endpoints_are_found_in_few_calls_with_the_address_that_callers_use(bare: Account) -> None:
    _make(bare, BOTH)
    bare.wire.clear()
    api, url = endpoints(bare.aws)["grayify"]
    assert len(bare.wire.calls) == 3
    assert (api.auth, api.key_name, api.service, api.public) == ("api_key", "scar-grayify", "execute-api", False)
    assert (url.auth, url.service, url.public) == ("none", "lambda", True)
    assert api.url.endswith(f".execute-api.{REGION}.amazonaws.com/scar")
    assert url.url.endswith(f".lambda-url.{REGION}.on.aws")
    assert endpoints_of(bare.aws, "grayify") == (api, url)
    assert endpoints_of(bare.aws, "nobody") == ()
    _make(bare, MOVED)
    assert endpoints_of(bare.aws, "grayify")[0].url.endswith(".amazonaws.com/prod/launch")


def test_a_function_may_invoke_itself_if_it_has_an_endpoint_and_only_then(acct: Account) -> None:
    """AP5: it answers an asynchronous request before it runs it."""
    site = Site.of(acct.aws)
    assert http.statements(function(), site) == ()
    (statement,) = http.statements(CLOSED, site)
    assert (statement["Action"], statement["Resource"]) == (["lambda:InvokeFunction"], [ARN])


def test_an_api_in_another_region_than_its_function_is_refused_before_anything_is_done(acct: Account) -> None:
    with pytest.raises(UsageError, match=r"api_gateway.region"):
        plan_init(acct.aws, with_endpoints(ApiGateway(name="cow", region="us-east-1")))


def test_a_url_that_somebody_else_made_for_the_function_becomes_as_it_is_wanted(bare: Account) -> None:
    bare.aws.lambda_.create_function_url_config(
        FunctionName="grayify", AuthType="NONE", Cors={"AllowOrigins": ["*"]}, InvokeMode="RESPONSE_STREAM"
    )
    (step,) = _plan(bare, with_endpoints(url=FunctionUrl())).steps
    assert {change.field for change in step.changes} == {"auth", "cors", "mode"}
    _make(bare, with_endpoints(url=FunctionUrl()))
    assert not _plan(bare, with_endpoints(url=FunctionUrl()))


def test_a_statement_that_grants_something_else_under_our_name_is_replaced(bare: Account) -> None:
    bare.aws.lambda_.add_permission(
        FunctionName="grayify",
        StatementId="scar-api-gateway",
        Action="lambda:InvokeFunction",
        Principal="apigateway.amazonaws.com",
        SourceArn=f"arn:aws:execute-api:{REGION}:{ACCOUNT}:*",
    )
    _make(bare, CLOSED)
    policy = json.loads(dump_http()["policy"])
    assert [one["Condition"]["ArnLike"]["AWS:SourceArn"].rpartition(":")[2] for one in policy] == ["api 0/scar/*/*"]


def test_an_error_of_api_gateway_is_told_as_what_it_is() -> None:
    from scar.aws.errors import is_absent, told

    absent = ClientError({"Error": {"Code": "NotFoundException", "Message": "Invalid stage"}}, "GetStage")
    taken = ClientError({"Error": {"Code": "ConflictException", "Message": "exists"}}, "PutMethod")
    assert is_absent(absent)
    assert isinstance(told(taken, "create rest api x"), ConflictError)


def test_a_stage_of_another_name_takes_the_key_along(bare: Account) -> None:
    """The plan leaves the old stage before that goes; the key, which callers have, stays."""
    _make(bare, KEYED)
    before = list(get_backend("apigateway")[ACCOUNT][REGION].keys)
    _make(bare, with_endpoints(ApiGateway(name="cow", auth="api_key", stage_name="prod")))
    found = dump_http()
    assert (list(found["apis"][0]["stages"]), found["plans"]) == (["prod"], [("scar-grayify", [("api 0", "prod")], 1)])
    assert list(get_backend("apigateway")[ACCOUNT][REGION].keys) == before
