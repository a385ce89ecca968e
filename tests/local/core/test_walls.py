"""What AWS refuses is refused here, in AWS's words: each row is one call."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError
from local_daemon import TRUST, Running, let_s3_in, make_function, make_role, zipped

from scar.local.address import Caller
from scar.local.refusal import RefusalError
from scar.local.walls import lambda_


@pytest.fixture(scope="module")
def role(shared: Running) -> str:
    return make_role(shared, "trusted")


@pytest.fixture(scope="module")
def function(shared: Running, role: str) -> str:
    return make_function(shared, "stands", Role=role)


def refused(client: Any, operation: str, **parameters: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        getattr(client, operation)(**parameters)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


CREATE = {"FunctionName": "made", "Runtime": "python3.13", "Handler": "code.handler", "Code": {"ZipFile": zipped()}}
VALIDATION, VALUE = "ValidationException", "InvalidParameterValueException"


@pytest.mark.parametrize(
    ("changed", "code", "says"),
    [
        ({"Timeout": 901}, VALIDATION, "less than or equal to 900"),
        ({"Timeout": 0}, VALIDATION, "greater than or equal to 1"),
        ({"MemorySize": 127}, VALIDATION, "greater than or equal to 128"),
        ({"MemorySize": 10_241}, VALIDATION, "less than or equal to 10240"),
        ({"EphemeralStorage": {"Size": 511}}, VALIDATION, "greater than or equal to 512"),
        ({"EphemeralStorage": {"Size": 10_241}}, VALIDATION, "less than or equal to 10240"),
        ({"Environment": {"Variables": {"A_VALUE": "x" * 4096}}}, VALUE, "exceeded the 4KB limit"),
        ({"Environment": {"Variables": {"AWS_REGION": "x"}}}, VALUE, "reserved keys"),
        ({"Environment": {"Variables": {"1BAD": "x"}}}, VALIDATION, "Map keys"),
        ({"Environment": {"Variables": {"A-B": "x"}}}, VALIDATION, "Map keys"),
        ({"FunctionName": "n" * 65}, VALIDATION, "functionName"),
        ({"FunctionName": "a.b"}, VALIDATION, "functionName"),
        ({"Description": "d" * 257}, VALIDATION, "256"),
        ({"Runtime": "python9.9"}, VALUE, "python9.9"),
        ({"Runtime": "python3.7"}, VALUE, "python3.7 is no longer supported"),
        ({"Runtime": None}, VALUE, "Runtime is mandatory"),
        ({"ImageConfig": {"Command": ["x"]}}, VALUE, "ImageConfig is supported only"),
        ({"Code": {}}, VALUE, "Please provide a source for function code"),
        ({"Architectures": ["x86_64", "arm64"]}, VALIDATION, "architectures"),
        ({"Architectures": ["riscv"]}, VALIDATION, "architectures"),
        ({"Layers": [f"arn:aws:lambda:us-east-1:123456789012:layer:l:{n}" for n in range(6)]}, VALUE, "5 layers"),
        ({"PackageType": "Image", "Code": {"ImageUri": "x"}}, VALUE, "Handler or Runtime"),
        ({"FileSystemConfigs": [{"Arn": "arn", "LocalMountPath": "/mnt/a/b"}]}, VALIDATION, "localMountPath"),
        ({"Role": "arn:aws:iam::123456789012:role/nobody"}, VALUE, "cannot be assumed by Lambda"),
        ({"Role": "role"}, VALIDATION, "'role'"),
    ],
)  # fmt: skip
def test_create_function_refuses(shared, role, changed, code, says):
    """LO8"""
    wanted = {**CREATE, "Role": role, **changed}
    wanted = {name: value for name, value in wanted.items() if value is not None}
    client = shared.client("lambda", parameter_validation=False)
    found_code, message = refused(client, "create_function", **wanted)
    assert (found_code, says in message) == (code, True), message


@pytest.mark.parametrize(
    ("method", "path", "operation"),
    [
        ("POST", "/2015-03-31/functions", "CreateFunction"),
        ("PUT", "/2015-03-31/functions/stands/code", "UpdateFunctionCode"),
        ("POST", "/2018-10-31/layers/layer/versions", "PublishLayerVersion"),
    ],
)
def test_requests_above_what_carries_50_mb_of_zip_are_refused_by_their_operations_name(method, path, operation):
    environ = {"REQUEST_METHOD": method, "PATH_INFO": path}
    with pytest.raises(RefusalError) as caught:
        lambda_.check(environ, bytes(69_905_068), Caller(None, None, None))
    assert (caught.value.status, caught.value.code) == (413, "RequestEntityTooLargeException")
    assert caught.value.message == f"Request must be smaller than 69905067 bytes for the {operation} operation"


def test_a_version_is_published_of_the_code_it_names_only(shared, function):
    client = shared.client("lambda")
    code, message = refused(client, "publish_version", FunctionName="stands", CodeSha256="other=")
    assert (code, message.startswith("CodeSHA256 (other=) is different from current CodeSHA256 in $LATEST")) == (
        VALUE,
        True,
    )
    current = client.get_function_configuration(FunctionName="stands")["CodeSha256"]
    assert client.publish_version(FunctionName="stands", CodeSha256=current)["Version"] == "1"


def test_a_role_that_does_not_trust_lambda_is_refused(shared):
    trust = json.loads(TRUST)
    trust["Statement"][0]["Principal"] = {"Service": "ec2.amazonaws.com"}
    arn = shared.client("iam").create_role(RoleName="other", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    code, message = refused(shared.client("lambda"), "create_function", **CREATE, Role=arn)
    assert (code, message) == (VALUE, "The role defined for the function cannot be assumed by Lambda.")


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"Timeout": 901}, VALIDATION),
        ({"Environment": {"Variables": {"AWS_REGION": "x"}}}, VALUE),
        ({"Role": "x"}, VALIDATION),
    ],
)
def test_update_function_configuration_refuses_the_same(shared, function, changed, code):
    client = shared.client("lambda", parameter_validation=False)
    assert refused(client, "update_function_configuration", FunctionName="stands", **changed)[0] == code


def test_what_is_allowed_passes(shared, function):
    found = shared.client("lambda").update_function_configuration(
        FunctionName="stands", Timeout=900, MemorySize=10_240, Environment={"Variables": {"A_VALUE": "x" * 4000}}
    )
    assert (found["Timeout"], found["MemorySize"]) == (900, 10_240)


def test_a_statement_id_is_used_once(shared, function):
    let_s3_in(shared, "stands", "twice")
    with pytest.raises(ClientError, match="ResourceConflictException"):
        let_s3_in(shared, "stands", "twice")


def notification(arn: str, *rules: dict[str, Any]) -> dict[str, Any]:
    def one(rule: dict[str, Any]) -> dict[str, Any]:
        filters = [{"Name": k, "Value": v} for k, v in rule.items() if k in ("prefix", "suffix")]
        made = {"LambdaFunctionArn": arn, "Events": rule.get("events", ["s3:ObjectCreated:*"])}
        return made | ({"Filter": {"Key": {"FilterRules": filters}}} if filters else {})

    return {"LambdaFunctionConfigurations": [one(rule) for rule in rules]}


def test_a_function_that_does_not_let_s3_in_is_no_destination(shared, function):
    s3 = shared.client("s3")
    s3.create_bucket(Bucket="no-permission")
    wanted = {"Bucket": "no-permission", "NotificationConfiguration": notification(function, {})}
    unable = ("InvalidArgument", "Unable to validate the following destination configurations")
    assert refused(s3, "put_bucket_notification_configuration", **wanted) == unable
    let_s3_in(shared, "stands", "no-permission", StatementId="other-account", SourceAccount="999999999999")
    assert refused(s3, "put_bucket_notification_configuration", **wanted) == unable
    let_s3_in(shared, "stands", "no-permission", StatementId="other-bucket", SourceArn="arn:aws:s3:::another")
    assert refused(s3, "put_bucket_notification_configuration", **wanted) == unable
    missing = notification(function.replace("stands", "missing"), {})
    assert (
        refused(s3, "put_bucket_notification_configuration", Bucket="no-permission", NotificationConfiguration=missing)
        == unable
    )
    let_s3_in(shared, "stands", "no-permission")
    s3.put_bucket_notification_configuration(**wanted)


@pytest.mark.parametrize(
    ("rules", "fine"),
    [
        ([{}, {}], False),
        ([{"prefix": "a/"}, {"prefix": "b/"}], True),
        ([{"prefix": "a/"}, {"prefix": "a/b/"}], False),
        ([{"prefix": "a/"}, {}], False),
        ([{"suffix": "jpg"}, {"suffix": "pg"}], False),
        ([{"suffix": "jpg"}, {"suffix": "png"}], True),
        ([{"prefix": "a/", "suffix": "jpg"}, {"prefix": "a/", "suffix": "png"}], True),
        ([{"prefix": "a/"}, {"prefix": "a/", "events": ["s3:ObjectRemoved:*"]}], True),
        ([{"events": ["s3:ObjectCreated:Put"]}, {"events": ["s3:ObjectCreated:Copy"]}], True),
        ([{"events": ["s3:ObjectCreated:Put"]}, {}], False),
    ],
)  # fmt: skip
def test_rules_must_not_overlap(shared, function, rules, fine):
    s3 = shared.client("s3")
    if "overlap" not in {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}:
        s3.create_bucket(Bucket="overlap")
        let_s3_in(shared, "stands", "overlap")
    wanted = {"Bucket": "overlap", "NotificationConfiguration": notification(function, *rules)}
    if fine:
        s3.put_bucket_notification_configuration(**wanted)
    else:
        code, message = refused(s3, "put_bucket_notification_configuration", **wanted)
        assert (code, "overlapping" in message) == ("InvalidArgument", True)


@pytest.mark.parametrize("name", ["Upper", "a_b", "ab", "x" * 64, "1.2.3.4", "-a-", "a..b", "xn--abc", "abc-s3alias"])
def test_bucket_names_follow_the_rules(shared, name):
    assert refused(shared.client("s3"), "create_bucket", Bucket=name)[0] == "InvalidBucketName"


@pytest.fixture(scope="module")
def bucket(shared: Running) -> str:
    shared.client("s3").create_bucket(Bucket="walls")
    return "walls"


def test_a_key_above_1024_bytes_is_refused(shared, bucket):
    s3 = shared.client("s3")
    s3.put_object(Bucket=bucket, Key="é" * 512, Body=b"")
    assert refused(s3, "put_object", Bucket=bucket, Key="é" * 512 + "x", Body=b"")[0] == "KeyTooLongError"


def test_too_much_metadata_too_many_tags_and_acls_are_refused(shared, bucket):
    s3 = shared.client("s3")
    assert (
        refused(s3, "put_object", Bucket=bucket, Key="k", Body=b"", Metadata={"a": "x" * 2048})[0] == "MetadataTooLarge"
    )
    tags = "&".join(f"k{n}=v" for n in range(11))
    assert refused(s3, "put_object", Bucket=bucket, Key="tagged", Body=b"", Tagging=tags)[0] == "BadRequest"
    assert refused(s3, "put_object", Bucket=bucket, Key="tagged", Body=b"", Tagging="aws:x=1")[0] == "InvalidTag"
    assert refused(s3, "head_object", Bucket=bucket, Key="tagged")[0] == "404"
    assert (
        refused(s3, "put_object", Bucket=bucket, Key="k", Body=b"", ACL="public-read")[0]
        == "AccessControlListNotSupported"
    )


def test_log_groups_and_retention_have_their_values(shared):
    logs = shared.client("logs")
    assert refused(logs, "create_log_group", logGroupName="a b")[0] == "InvalidParameterException"
    logs.create_log_group(logGroupName="/walls")
    assert (
        refused(logs, "put_retention_policy", logGroupName="/walls", retentionInDays=8)[0]
        == "InvalidParameterException"
    )
    logs.put_retention_policy(logGroupName="/walls", retentionInDays=3653)


def test_a_role_leaves_an_instance_profile_once(shared):
    iam = shared.client("iam")
    iam.create_instance_profile(InstanceProfileName="machines")
    make_role(shared, "of-machines")
    iam.add_role_to_instance_profile(InstanceProfileName="machines", RoleName="of-machines")
    named = {"InstanceProfileName": "machines", "RoleName": "of-machines"}
    iam.remove_role_from_instance_profile(**named)
    assert refused(iam, "remove_role_from_instance_profile", **named)[0] == "NoSuchEntity"
