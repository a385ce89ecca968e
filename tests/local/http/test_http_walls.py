"""What API Gateway refuses and moto does not, so that a deployment which would fail on AWS fails here."""

from __future__ import annotations

import json
from typing import Any

import pytest

from scar.local import walls
from scar.local.address import Caller
from scar.local.refusal import RefusalError

INTEGRATION = "/restapis/a/resources/b/methods/ANY/integration"
METHOD = "/restapis/a/resources/b/methods"


def _ask(method: str, path: str, asked: dict[str, Any]) -> None:
    environ = {"REQUEST_METHOD": method, "PATH_INFO": path}
    walls.check("apigateway", environ, json.dumps(asked).encode(), Caller(None, None, None))


@pytest.mark.parametrize(
    ("method", "path", "asked"),
    [
        ("POST", "/restapis", {"name": ""}),
        ("POST", "/restapis", {"name": "x" * 1025}),
        ("POST", "/restapis", {"name": "x", "tags": {str(number): "" for number in range(51)}}),
        ("POST", "/restapis/a/resources/b", {"pathPart": "a b"}),
        ("POST", "/restapis/a/resources/b", {"pathPart": "a/b"}),
        ("POST", "/restapis/a/resources/b", {"pathPart": "{proxy+"}),
        ("PUT", f"{METHOD}/BREW", {"authorizationType": "NONE"}),
        ("PUT", f"{METHOD}/ANY", {"authorizationType": "iam"}),
        ("PUT", INTEGRATION, {"type": "AWS_PROXY", "httpMethod": "ANY"}),
        ("PUT", INTEGRATION, {"type": "AWS_PROXY", "httpMethod": "POST", "timeoutInMillis": 29001}),
        ("POST", "/restapis/a/deployments", {"stageName": "a.b"}),
        ("POST", "/restapis/a/stages", {"stageName": "a b"}),
    ],
)
def test_what_aws_would_refuse_is_refused(method: str, path: str, asked: dict[str, Any]) -> None:
    with pytest.raises(RefusalError) as caught:
        _ask(method, path, asked)
    assert (caught.value.status, caught.value.code) == (400, "BadRequestException")


@pytest.mark.parametrize(
    ("method", "path", "asked"),
    [
        ("POST", "/restapis", {"name": "x" * 1024}),
        ("POST", "/restapis/a/resources/b", {"pathPart": "{proxy+}"}),
        ("PUT", f"{METHOD}/ANY", {"authorizationType": "AWS_IAM"}),
        ("PUT", INTEGRATION, {"type": "AWS_PROXY", "httpMethod": "POST", "timeoutInMillis": 29000}),
        ("POST", "/restapis/a/deployments", {}),
        ("GET", "/restapis", {}),
    ],
)
def test_what_aws_takes_is_taken(method: str, path: str, asked: dict[str, Any]) -> None:
    assert _ask(method, path, asked) is None


def test_an_api_that_nobody_could_call_cannot_be_deployed_and_a_plan_that_holds_a_stage_cannot_go(gate: Any) -> None:
    """What depends on what is there already."""
    api = gate.api.create_rest_api(name="a")
    where = {"restApiId": api["id"], "resourceId": api["rootResourceId"], "httpMethod": "GET"}
    refusals = gate.api.exceptions
    with pytest.raises(refusals.BadRequestException):
        gate.api.create_deployment(restApiId=api["id"], stageName="s")
    gate.api.put_method(**where, authorizationType="NONE")
    with pytest.raises(refusals.ConflictException):
        gate.api.put_method(**where, authorizationType="NONE")
    with pytest.raises(refusals.ClientError, match="No integration"):
        gate.api.create_deployment(restApiId=api["id"], stageName="s")
    api_id = gate.rest_api().split("/")[3]
    plan = gate.api.create_usage_plan(name="p", apiStages=[{"apiId": api_id, "stage": "scar"}])["id"]
    with pytest.raises(refusals.BadRequestException):
        gate.api.delete_usage_plan(usagePlanId=plan)
    with pytest.raises(refusals.NotFoundException):
        gate.api.delete_rest_api(restApiId="nobody")
    gate.url()
    with pytest.raises(gate.lambda_.exceptions.ResourceConflictException):
        gate.url()
