"""What real clients send, read back: whose signature it is, and which actions on which resources it needs. No server is asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, unquote

import boto3
import pytest
from botocore.awsrequest import AWSPreparedRequest
from hypothesis import given, settings
from hypothesis import strategies as st

from scar.local.iam import signature
from scar.local.iam.actions import asked_of
from scar.local.iam.request import Request, operation_of

ACCOUNT, REGION = "123456789012", "eu-west-1"
ARN = f"arn:aws:{{}}:{REGION}:{ACCOUNT}:{{}}"


class _Caught(Exception):
    def __init__(self, request: AWSPreparedRequest) -> None:
        super().__init__(request)
        self.request = request


def _catch(request: AWSPreparedRequest, **_: Any) -> None:
    raise _Caught(request)


CLIENTS: dict[str, Any] = {}


def client(service: str) -> Any:
    """A client whose requests are caught after they were signed."""
    if service not in CLIENTS:
        session = boto3.Session("AKIDEXAMPLE", "not so secret", "token", region_name=REGION)
        CLIENTS[service] = session.client(service, endpoint_url="http://127.0.0.1:1")
        CLIENTS[service].meta.events.register("before-send", _catch)
    return CLIENTS[service]


def sent(service: str, call: Callable[[Any], Any]) -> signature.Wire:
    with pytest.raises(_Caught) as caught:
        call(client(service))
    request = caught.value.request
    path, _, query = request.url.removeprefix("http://127.0.0.1:1").partition("?")
    headers = {
        name.lower(): value.decode("latin-1") if isinstance(value, bytes) else str(value)
        for name, value in request.headers.items()
    }
    headers["host"] = "127.0.0.1:1"
    body = request.body if isinstance(request.body, bytes) else (request.body or b"")
    body = body.encode() if isinstance(body, str) else body if isinstance(body, bytes) else body.read()
    return signature.Wire(request.method, path, query, headers, body)


def needs(service: str, call: Callable[[Any], Any], signed_for: str | None = None) -> list[tuple[str, str]]:
    wire = sent(service, call)
    query = parse_qs(wire.raw_query, keep_blank_values=True)
    name = signed_for or service
    operation, parameters = ("", {}) if name == "s3" else operation_of(
        name, wire.method, wire.raw_path, query=query, headers=wire.headers, body=wire.body or b""
    )  # fmt: skip
    request = Request(
        name, REGION, ACCOUNT, "aws", wire.method, unquote(wire.raw_path), query, wire.headers, operation, parameters
    )
    return [(asked.action, asked.resource) for asked in asked_of(request, wire.body or b"")]


S3 = "arn:aws:s3:::b"
ROLE = "arn:aws:iam::123456789012:role/r"
CASES: list[tuple[str, Callable[[Any], Any], list[tuple[str, str]]]] = [
    ("s3", lambda c: c.get_object(Bucket="b", Key="a b/+ü"), [("s3:GetObject", f"{S3}/a b/+ü")]),
    ("s3", lambda c: c.head_object(Bucket="b", Key="k", VersionId="1"), [("s3:GetObjectVersion", f"{S3}/k")]),
    ("s3", lambda c: c.put_object(Bucket="b", Key="k", Body=b"x"), [("s3:PutObject", f"{S3}/k")]),
    ("s3", lambda c: c.put_object(Bucket="b", Key="k", IfMatch="e"), [("s3:PutObject", f"{S3}/k"), ("s3:GetObject", f"{S3}/k")]),
    ("s3", lambda c: c.put_object(Bucket="b", Key="k", IfNoneMatch="*"), [("s3:PutObject", f"{S3}/k")]),
    ("s3", lambda c: c.copy_object(Bucket="b", Key="k", CopySource="o/p q"), [("s3:PutObject", f"{S3}/k"), ("s3:GetObject", "arn:aws:s3:::o/p q")]),
    ("s3", lambda c: c.create_multipart_upload(Bucket="b", Key="k"), [("s3:PutObject", f"{S3}/k")]),
    ("s3", lambda c: c.upload_part(Bucket="b", Key="k", UploadId="u", PartNumber=1), [("s3:PutObject", f"{S3}/k")]),
    ("s3", lambda c: c.abort_multipart_upload(Bucket="b", Key="k", UploadId="u"), [("s3:AbortMultipartUpload", f"{S3}/k")]),
    ("s3", lambda c: c.list_parts(Bucket="b", Key="k", UploadId="u"), [("s3:ListMultipartUploadParts", f"{S3}/k")]),
    ("s3", lambda c: c.list_objects_v2(Bucket="b", Prefix="x/"), [("s3:ListBucket", S3)]),
    ("s3", lambda c: c.head_bucket(Bucket="b"), [("s3:ListBucket", S3)]),
    ("s3", lambda c: c.list_object_versions(Bucket="b"), [("s3:ListBucketVersions", S3)]),
    ("s3", lambda c: c.list_buckets(), [("s3:ListAllMyBuckets", "arn:aws:s3:::*")]),
    ("s3", lambda c: c.delete_objects(Bucket="b", Delete={"Objects": [{"Key": "x&y"}, {"Key": "z", "VersionId": "1"}]}), [("s3:DeleteObject", f"{S3}/x&y"), ("s3:DeleteObjectVersion", f"{S3}/z")]),
    ("s3", lambda c: c.create_bucket(Bucket="b", ObjectOwnership="BucketOwnerEnforced", CreateBucketConfiguration={"LocationConstraint": REGION}), [("s3:CreateBucket", S3), ("s3:PutBucketOwnershipControls", S3)]),
    ("s3", lambda c: c.put_bucket_encryption(Bucket="b", ServerSideEncryptionConfiguration={"Rules": []}), [("s3:PutEncryptionConfiguration", S3)]),
    ("s3", lambda c: c.put_bucket_notification_configuration(Bucket="b", NotificationConfiguration={}), [("s3:PutBucketNotification", S3)]),
    ("s3", lambda c: c.delete_bucket_policy(Bucket="b"), [("s3:DeleteBucketPolicy", S3)]),
    ("s3", lambda c: c.get_object_tagging(Bucket="b", Key="k", VersionId="1"), [("s3:GetObjectVersionTagging", f"{S3}/k")]),
    ("lambda", lambda c: c.invoke(FunctionName="f", Qualifier="7"), [("lambda:InvokeFunction", ARN.format("lambda", "function:f:7"))]),
    ("lambda", lambda c: c.get_function(FunctionName=ARN.format("lambda", "function:f")), [("lambda:GetFunction", ARN.format("lambda", "function:f"))]),
    ("lambda", lambda c: c.list_functions(), [("lambda:ListFunctions", "*")]),
    ("lambda", lambda c: c.create_function(FunctionName="f", Role=ROLE, Code={"ImageUri": "i"}, Tags={"a": "b"}), [("lambda:CreateFunction", ARN.format("lambda", "function:f")), ("lambda:TagResource", ARN.format("lambda", "function:f")), ("iam:PassRole", ROLE)]),
    ("iam", lambda c: c.get_role(RoleName="r"), [("iam:GetRole", ROLE)]),
    ("iam", lambda c: c.create_role(RoleName="r", AssumeRolePolicyDocument="{}", Tags=[{"Key": "a", "Value": "b"}]), [("iam:CreateRole", ROLE), ("iam:TagRole", ROLE)]),
    ("iam", lambda c: c.add_role_to_instance_profile(InstanceProfileName="p", RoleName="r"), [("iam:AddRoleToInstanceProfile", "arn:aws:iam::123456789012:instance-profile/p"), ("iam:PassRole", ROLE)]),
    ("sts", lambda c: c.get_caller_identity(), []),
    ("sts", lambda c: c.assume_role(RoleArn=ROLE, RoleSessionName="s1"), [("sts:AssumeRole", ROLE)]),
    ("logs", lambda c: c.create_log_group(logGroupName="/g", tags={"a": "b"}), [("logs:CreateLogGroup", ARN.format("logs", "log-group:/g:log-stream:")), ("logs:TagResource", ARN.format("logs", "log-group:/g"))]),
    ("logs", lambda c: c.put_log_events(logGroupName="/g", logStreamName="s", logEvents=[{"timestamp": 1, "message": "m"}]), [("logs:PutLogEvents", ARN.format("logs", "log-group:/g:log-stream:s"))]),
    ("ecr", lambda c: c.get_authorization_token(), [("ecr:GetAuthorizationToken", "*")]),
    ("ecr", lambda c: c.describe_repositories(repositoryNames=["a/b", "cc"]), [("ecr:DescribeRepositories", ARN.format("ecr", "repository/a/b")), ("ecr:DescribeRepositories", ARN.format("ecr", "repository/cc"))]),
    ("batch", lambda c: c.submit_job(jobName="j", jobQueue="q", jobDefinition="d:3"), [("batch:SubmitJob", ARN.format("batch", "job-definition/d:3")), ("batch:SubmitJob", ARN.format("batch", "job-queue/q"))]),
    ("batch", lambda c: c.terminate_job(jobId="i", reason="r"), [("batch:TerminateJob", ARN.format("batch", "job/i"))]),
    ("batch", lambda c: c.register_job_definition(jobDefinitionName="d", type="container", containerProperties={"jobRoleArn": ROLE}), [("batch:RegisterJobDefinition", ARN.format("batch", "job-definition/d")), ("iam:PassRole", ROLE)]),
    ("events", lambda c: c.put_events(Entries=[{"Source": "s", "DetailType": "d", "Detail": "{}"}]), [("events:PutEvents", ARN.format("events", "event-bus/default"))]),
    ("events", lambda c: c.put_rule(Name="r", EventPattern="{}"), [("events:PutRule", ARN.format("events", "rule/r"))]),
    ("ssm", lambda c: c.get_parameter(Name="/scar/f/x"), [("ssm:GetParameter", ARN.format("ssm", "parameter/scar/f/x"))]),
    ("apigateway", lambda c: c.get_rest_api(restApiId="a"), [("apigateway:GET", f"arn:aws:apigateway:{REGION}::/restapis/a")]),
    ("ec2", lambda c: c.describe_vpcs(), [("ec2:DescribeVpcs", "*")]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("service", "call", "expected"), CASES, ids=[f"{case[0]}-{number}" for number, case in enumerate(CASES)]
)
def test_a_request_needs_the_actions_that_aws_lists(
    service: str, call: Callable[[Any], Any], expected: list[tuple[str, str]]
) -> None:
    """SE2."""
    assert needs(service, call) == expected


@pytest.mark.parametrize(("service", "call"), [(case[0], case[1]) for case in CASES[::3]])
def test_what_botocore_signs_is_taken_and_with_another_secret_it_is_not(
    service: str, call: Callable[[Any], Any]
) -> None:
    wire = sent(service, call)
    signed = signature.read(wire)
    assert signed is not None
    assert (signed.key, signed.token) == ("AKIDEXAMPLE", "token")
    assert signature.fits(signed, wire, "not so secret")
    assert not signature.fits(signed, wire, "not so secreT")


@given(st.text(min_size=1, max_size=30).filter(lambda text: text.strip("./") == text and "//" not in text))
@settings(max_examples=60, deadline=None)
def test_any_key_is_signed_and_read_alike(key: str) -> None:
    """What is in the path, and what is in the query."""
    try:
        key.encode()
    except UnicodeEncodeError:
        return
    for call in (lambda c: c.get_object(Bucket="b", Key=key), lambda c: c.list_objects_v2(Bucket="b", Prefix=key)):
        wire = sent("s3", call)
        signed = signature.read(wire)
        assert signed is not None
        assert signature.fits(signed, wire, "not so secret")
        changed = signature.Wire(wire.method, f"{wire.raw_path}x", wire.raw_query, wire.headers, wire.body)
        assert not signature.fits(signed, changed, "not so secret")
