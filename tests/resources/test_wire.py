"""The exact requests, and AWS's answers that moto never gives: pending, failed, refused, in another region."""

from __future__ import annotations

from dataclasses import replace
from importlib import metadata
from typing import Any

import pytest
from botocore.stub import Stubber

from scar.aws.clients import Access, Aws
from scar.aws.resources import buckets
from scar.aws.resources.code import ImageCode, ZipCode
from scar.aws.resources.function import LambdaFunction
from scar.aws.resources.notification import Entry, Notification
from scar.aws.resources.permission import InvokePermission
from scar.aws.resources.state_bucket import StateBucket
from scar.aws.resources.user_bucket import UserBucket
from scar.errors import ConflictError, ServiceError, TimedOutError
from tests.support.account import ACCOUNT, FakeClock

IMAGE = f"{ACCOUNT}.dkr.ecr.eu-west-1.amazonaws.com/scar/f@sha256:{'0' * 64}"
ARN = f"arn:aws:lambda:eu-west-1:{ACCOUNT}:function:f"
FUNCTION = LambdaFunction(
    name="f",
    arn=ARN,
    code=ImageCode(IMAGE),
    role_arn=f"arn:aws:iam::{ACCOUNT}:role/scar-f-eu-west-1",
    memory_mib=512,
    timeout_s=300,
    tmp_mib=512,
    architecture="x86_64",
    description="",
    environment=(("A", "1"),),
    tags=(("createdby", "scar"), ("scar:function", "f")),
)
SETTINGS = {
    "FunctionName": "f",
    "Role": FUNCTION.role_arn,
    "MemorySize": 512,
    "Timeout": 300,
    "EphemeralStorage": {"Size": 512},
    "Description": "",
    "Environment": {"Variables": {"A": "1"}},
}
CREATE = {
    **SETTINGS,
    "PackageType": "Image",
    "Code": {"ImageUri": IMAGE},
    "Architectures": ["x86_64"],
    "Tags": {"createdby": "scar", "scar:function": "f", "scar:version": metadata.version("scar")},
}
NOT_YET = ("InvalidParameterValueException", "The role defined for the function cannot be assumed by Lambda.")


def _aws(region: str = "eu-west-1") -> Aws:
    aws = Aws(Access(region, access_key="testing", secret_key="testing"), FakeClock())
    aws.__dict__["account"] = ACCOUNT
    return aws


def _configuration(**more: Any) -> dict[str, Any]:
    return {
        **{key: value for key, value in SETTINGS.items() if key != "EphemeralStorage"},
        "FunctionArn": ARN,
        "PackageType": "Image",
        "State": "Active",
        "LastUpdateStatus": "Successful",
        **more,
    }


def _found(**more: Any) -> dict[str, Any]:
    return {
        "Configuration": _configuration(**more),
        "Code": {"ImageUri": IMAGE},
        "Tags": {"createdby": "scar", "scar:function": "f", "scar:version": "1"},
    }


def _slept(aws: Aws) -> float:
    assert isinstance(aws.clock, FakeClock)
    return sum(aws.clock.slept)


def test_a_function_is_asked_for_again_until_lambda_knows_its_role_and_waited_for_until_it_is_active() -> None:
    aws = _aws()
    with Stubber(aws.lambda_) as lambda_:
        lambda_.add_client_error("create_function", *NOT_YET, expected_params=CREATE)
        lambda_.add_client_error("create_function", *NOT_YET, expected_params=CREATE)
        lambda_.add_response("create_function", {"State": "Pending"}, CREATE)
        lambda_.add_response("get_function", _found(State="Pending"), {"FunctionName": "f"})
        lambda_.add_response("get_function", _found(), {"FunctionName": "f"})
        FUNCTION.create(aws)
        lambda_.assert_no_pending_responses()
    assert 0 < _slept(aws) < 5


def test_a_role_that_lambda_never_comes_to_know_is_given_up_on() -> None:
    aws = _aws()
    with Stubber(aws.lambda_) as lambda_:
        for _ in range(100):
            lambda_.add_client_error("create_function", *NOT_YET)
        with pytest.raises(TimedOutError, match=r"it said: .*cannot be assumed"):
            FUNCTION.create(aws)
    assert 100 < _slept(aws) < 130


def test_an_image_that_lambda_cannot_use_is_an_error_with_its_reason() -> None:
    aws = _aws()
    failed = _found(State="Failed", StateReasonCode="InvalidImage", StateReason="no such layer")
    with Stubber(aws.lambda_) as lambda_:
        lambda_.add_response("create_function", {"State": "Pending"})
        lambda_.add_response("get_function", failed)
        with pytest.raises(ServiceError, match="InvalidImage no such layer"):
            FUNCTION.create(aws)


def test_a_function_left_pending_is_unequal_and_updating_it_only_waits() -> None:
    aws = _aws()
    with Stubber(aws.lambda_) as lambda_:
        lambda_.add_response("get_function", _found(State="Pending"))
        lambda_.add_response("get_function", _found())
        actual = FUNCTION.read(aws)
        assert actual == replace(FUNCTION, state="Pending")
        FUNCTION.update(aws, actual)
        lambda_.assert_no_pending_responses()


def test_a_function_whose_update_failed_is_sent_its_code_again() -> None:
    aws = _aws()
    failed = _found(LastUpdateStatus="Failed", LastUpdateStatusReasonCode="ImageDeleted")
    with Stubber(aws.lambda_) as lambda_:
        lambda_.add_response("get_function", failed)
        lambda_.add_response("update_function_code", {})
        lambda_.add_response("get_function", _found(LastUpdateStatus="InProgress"))
        lambda_.add_response("get_function", _found())
        lambda_.add_client_error("update_function_configuration", "ResourceConflictException", "in progress")
        lambda_.add_response("update_function_configuration", {}, SETTINGS)
        lambda_.add_response("get_function", _found())
        actual = FUNCTION.read(aws)
        assert actual is not None
        assert actual.state == "Failed: ImageDeleted"
        FUNCTION.update(aws, actual)
        lambda_.assert_no_pending_responses()


def test_an_idle_function_needs_nothing() -> None:
    aws = _aws()
    with Stubber(aws.lambda_) as lambda_:
        lambda_.add_response("get_function", _found(State="Inactive"))
        assert FUNCTION.read(aws) == FUNCTION


def test_a_zip_function_cannot_become_an_image() -> None:
    aws = _aws()
    with Stubber(aws.lambda_) as lambda_:
        lambda_.add_response("get_function", _found(PackageType="Zip"))
        with pytest.raises(ConflictError, match="made of a zip, and Lambda never changes that to a container image"):
            FUNCTION.read(aws)


ZIP = replace(
    FUNCTION,
    code=ZipCode("c2hh", content=lambda: b"PK"),
    runtime="python3.13",
    layers=("arn:aws:lambda:eu-west-1:123456789012:layer:mine:1",),
)
ZIP_SETTINGS = {**SETTINGS, "Runtime": "python3.13", "Handler": "scar.handler", "Layers": list(ZIP.layers)}
ZIP_FOUND = {
    "PackageType": "Zip",
    "CodeSha256": "c2hh",
    "Runtime": "python3.13",
    "Handler": "scar.handler",
    "Layers": [{"Arn": ZIP.layers[0], "CodeSize": 1}],
}


@pytest.mark.parametrize(
    ("place", "code"), [(None, {"ZipFile": b"PK"}), (("mine", "key"), {"S3Bucket": "mine", "S3Key": "key"})]
)
def test_a_zip_is_sent_with_the_request_or_named_in_s3(place: Any, code: dict[str, Any]) -> None:
    aws, fn = _aws(), replace(ZIP, code=ZipCode("c2hh", content=lambda: b"PK", place=place))
    with Stubber(aws.lambda_) as lambda_:
        lambda_.add_response(
            "create_function",
            {"State": "Active"},
            {**CREATE, **ZIP_SETTINGS, "PackageType": "Zip", "Code": code},
        )
        fn.create(aws)
        old = _found(**{**ZIP_FOUND, "CodeSha256": "b2xk"})
        lambda_.add_response("get_function", old)
        actual = fn.read(aws)
        assert actual is not None
        lambda_.add_response("update_function_code", {}, {"FunctionName": "f", "Architectures": ["x86_64"], **code})
        lambda_.add_response("get_function", _found(**ZIP_FOUND))
        fn.update(aws, actual)
        lambda_.assert_no_pending_responses()


def test_a_zip_that_is_as_it_should_be_is_equal() -> None:
    aws = _aws()
    with Stubber(aws.lambda_) as lambda_:
        lambda_.add_response("get_function", _found(**ZIP_FOUND))
        assert ZIP.read(aws) == ZIP


def test_runtime_and_layers_are_configuration() -> None:
    aws = _aws()
    with Stubber(aws.lambda_) as lambda_:
        lambda_.add_response("get_function", _found(**{**ZIP_FOUND, "Runtime": "python3.12", "Layers": []}))
        actual = ZIP.read(aws)
        assert actual is not None
        lambda_.add_response("update_function_configuration", {}, ZIP_SETTINGS)
        lambda_.add_response("get_function", _found(**ZIP_FOUND))
        ZIP.update(aws, actual)
        lambda_.assert_no_pending_responses()


def test_a_function_that_is_to_go_is_read_whatever_it_runs() -> None:
    aws = _aws()
    with Stubber(aws.lambda_) as lambda_:
        lambda_.add_response("get_function", _found(**ZIP_FOUND))
        lambda_.add_response("get_function", _found())
        for _ in range(2):
            assert replace(FUNCTION, code=None).read(aws) is not None


def test_a_bucket_may_invoke_only_for_its_account() -> None:
    aws = _aws()
    with Stubber(aws.lambda_) as lambda_:
        wanted = {
            "FunctionName": "f",
            "StatementId": "scar-b-ucket-ed473943",
            "Action": "lambda:InvokeFunction",
            "Principal": "s3.amazonaws.com",
            "SourceArn": "arn:aws:s3:::b.ucket",
            "SourceAccount": ACCOUNT,
        }
        lambda_.add_response("add_permission", {}, wanted)
        InvokePermission("f", "b.ucket", "arn:aws:s3:::b.ucket", ACCOUNT).create(aws)


@pytest.mark.parametrize(
    ("region", "place"),
    [("us-east-1", {}), ("eu-west-1", {"CreateBucketConfiguration": {"LocationConstraint": "eu-west-1"}})],
)
def test_a_bucket_names_its_region_everywhere_but_in_the_first_one(region: str, place: dict[str, Any]) -> None:
    aws = _aws(region)
    with Stubber(aws.s3) as s3:
        s3.add_response("create_bucket", {}, {"Bucket": "b", "ObjectOwnership": "BucketOwnerEnforced", **place})
        buckets.create(aws, "b")
        s3.assert_no_pending_responses()


def test_a_bucket_that_another_is_just_making_is_asked_for_again() -> None:
    aws = _aws()
    with Stubber(aws.s3) as s3:
        s3.add_client_error("create_bucket", "OperationAborted", http_status_code=409)
        s3.add_client_error("create_bucket", "BucketAlreadyOwnedByYou", http_status_code=409)
        buckets.create(aws, "b")
        s3.assert_no_pending_responses()


def test_a_bucket_of_another_region_cannot_be_an_input_and_can_be_an_output() -> None:
    aws = _aws()
    with Stubber(aws.s3) as s3:
        s3.add_response("head_bucket", {"BucketRegion": "us-west-2"})
        with pytest.raises(ConflictError, match="is in us-west-2"):
            UserBucket("b", "state").read(aws)
        s3.add_response("head_bucket", {"BucketRegion": "us-west-2"})
        s3.add_client_error("head_object", "404", http_status_code=404)
        assert UserBucket("b", "state", local=False).read(aws) == UserBucket("b", "state")


def test_somebody_elses_bucket_is_a_conflict() -> None:
    aws = _aws()
    with Stubber(aws.s3) as s3:
        s3.add_client_error("head_bucket", "403", http_status_code=403)
        with pytest.raises(ConflictError, match="may not use it"):
            UserBucket("b", "state").read(aws)


def test_a_state_bucket_in_another_accounts_hands_is_refused() -> None:
    aws = _aws()
    with Stubber(aws.s3) as s3:
        s3.add_client_error("head_object", "403", http_status_code=403)
        s3.add_response("list_buckets", {"Buckets": []})
        with pytest.raises(ConflictError, match="belongs to another account"):
            StateBucket("scar-state", "f").read(aws)


def test_filters_are_understood_in_the_capitals_that_aws_answers_with() -> None:
    aws = _aws()
    entry = {
        "Id": "scar-f-01234567",
        "LambdaFunctionArn": ARN,
        "Events": ["s3:ObjectCreated:*"],
        "Filter": {"Key": {"FilterRules": [{"Name": "Prefix", "Value": "in/"}, {"Name": "Suffix", "Value": ""}]}},
    }
    with Stubber(aws.s3) as s3:
        s3.add_response(
            "get_bucket_notification_configuration",
            {"LambdaFunctionConfigurations": [entry]},
            {"Bucket": "b", "ExpectedBucketOwner": ACCOUNT},
        )
        wanted = Notification("f", ARN, "b", (Entry("in/"),), "state")
        assert wanted.read(aws) == wanted
