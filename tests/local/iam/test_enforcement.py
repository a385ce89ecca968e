"""A local AWS that enforces IAM, seen from outside: who is let in, what is refused, in whose words; and that it is remembered."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from scar.local import lifecycle

REGION = "us-east-1"


@dataclass
class Account:
    folder: Path
    url: str

    def client(self, service: str, key: str = "local", secret: str = "local", token: str | None = None) -> Any:
        return boto3.client(
            service, REGION, endpoint_url=self.url, aws_access_key_id=key, aws_secret_access_key=secret,
            aws_session_token=token, config=Config(retries={"total_max_attempts": 1}, signature_version="s3v4" if service == "s3" else None),
        )  # fmt: skip

    def user(self, name: str, *statements: dict[str, Any]) -> dict[str, str]:
        """A user with one inline policy; answers its keys, as `client` takes them."""
        iam = self.client("iam")
        iam.create_user(UserName=name)
        if statements:
            iam.put_user_policy(
                UserName=name,
                PolicyName="p",
                PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": statements}),
            )
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return {"key": key["AccessKeyId"], "secret": key["SecretAccessKey"]}


def allow(*actions: str, resource: str = "*", effect: str = "Allow", **more: Any) -> dict[str, Any]:
    return {"Effect": effect, "Action": list(actions), "Resource": resource, **more}


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    folder = tmp_path_factory.mktemp("enforced") / "state"
    endpoint = lifecycle.ensure_up(folder, iam=True)
    made = Account(folder, endpoint.url)
    made.client("s3").create_bucket(Bucket="photos")
    made.client("s3").put_object(Bucket="photos", Key="in/a", Body=b"x")
    yield made
    lifecycle.down(folder)


def refused(call: Any, /, *args: Any, **words: Any) -> tuple[int, str, str]:
    with pytest.raises(ClientError) as caught:
        call(*args, **words)
    answer = caught.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"], answer["Error"].get("Message", "")


@pytest.mark.parametrize(
    ("service", "call", "status", "code"),
    [
        ("s3", lambda c: c.list_objects_v2(Bucket="photos"), 403, "AccessDenied"),
        ("lambda", lambda c: c.list_functions(), 403, "AccessDeniedException"),
        ("iam", lambda c: c.list_roles(), 403, "AccessDenied"),
        ("logs", lambda c: c.describe_log_groups(), 400, "AccessDeniedException"),
        ("ecr", lambda c: c.get_authorization_token(), 400, "AccessDeniedException"),
        ("batch", lambda c: c.describe_job_queues(), 403, "AccessDeniedException"),
        ("events", lambda c: c.list_rules(), 400, "AccessDeniedException"),
        ("ssm", lambda c: c.describe_parameters(), 400, "AccessDeniedException"),
        ("apigateway", lambda c: c.get_rest_apis(), 403, "AccessDeniedException"),
        ("resourcegroupstaggingapi", lambda c: c.get_resources(), 400, "AccessDeniedException"),
        ("ec2", lambda c: c.describe_vpcs(), 403, "UnauthorizedOperation"),
        ("sts", lambda c: c.assume_role(RoleArn="arn:aws:iam::123456789012:role/r", RoleSessionName="s1"), 403, "AccessDenied"),
    ],
)  # fmt: skip
def test_who_may_nothing_is_refused_in_each_services_words(
    account: Account, nobody: dict[str, str], service: str, call: Any, status: int, code: str
) -> None:
    """SE2."""
    found = refused(call, account.client(service, **nobody))
    assert found[:2] == (status, code)
    assert "User: arn:aws:iam::123456789012:user/nobody is not authorized to perform: " in found[2]


@pytest.fixture(scope="module")
def nobody(account: Account) -> dict[str, str]:
    return account.user("nobody")


def test_everybody_may_ask_who_they_are(account: Account, nobody: dict[str, str]) -> None:
    assert account.client("sts", **nobody).get_caller_identity()["Arn"].endswith(":user/nobody")


def test_an_unknown_key_and_a_wrong_secret_are_no_keys(account: Account, nobody: dict[str, str]) -> None:
    assert refused(account.client("s3", "AKIAUNKNOWN", "x").list_buckets)[:2] == (403, "InvalidAccessKeyId")
    assert refused(account.client("iam", "AKIAUNKNOWN", "x").list_roles)[:2] == (403, "InvalidClientTokenId")
    assert refused(account.client("s3", nobody["key"], "x").list_buckets)[:2] == (403, "SignatureDoesNotMatch")
    assert refused(account.client("lambda", "local", "x").list_functions)[:2] == (403, "InvalidSignatureException")


def test_a_key_that_was_switched_off_opens_nothing(account: Account) -> None:
    keys = account.user("off", allow("s3:*"))
    account.client("s3", **keys).list_buckets()
    account.client("iam").update_access_key(UserName="off", AccessKeyId=keys["key"], Status="Inactive")
    assert refused(account.client("s3", **keys).list_buckets)[1] == "InvalidAccessKeyId"


def test_what_is_absent_is_told_only_to_who_may_list(account: Account) -> None:
    reads = account.client("s3", **account.user("reads", allow("s3:GetObject")))
    lists = account.client("s3", **account.user("lists", allow("s3:GetObject", "s3:ListBucket")))
    assert reads.get_object(Bucket="photos", Key="in/a")["Body"].read() == b"x"
    assert refused(reads.get_object, Bucket="photos", Key="in/b")[:2] == (403, "AccessDenied")
    assert refused(reads.head_object, Bucket="photos", Key="in/b")[0] == 403
    assert refused(lists.get_object, Bucket="photos", Key="in/b")[:2] == (404, "NoSuchKey")


def test_groups_and_attached_policies_count_and_a_deny_wins(account: Account) -> None:
    iam = account.client("iam")
    keys = account.user("member", allow("s3:GetObject", resource="arn:aws:s3:::photos/secret*", effect="Deny"))
    s3 = account.client("s3", **keys)
    assert refused(s3.get_object, Bucket="photos", Key="in/a")[1] == "AccessDenied"
    document = json.dumps(
        {"Version": "2012-10-17", "Statement": [allow("s3:GetObject", resource="arn:aws:s3:::photos/*")]}
    )
    arn = iam.create_policy(PolicyName="readers", PolicyDocument=document)["Policy"]["Arn"]
    iam.create_group(GroupName="readers")
    iam.attach_group_policy(GroupName="readers", PolicyArn=arn)
    iam.add_user_to_group(GroupName="readers", UserName="member")
    assert s3.get_object(Bucket="photos", Key="in/a")["Body"].read() == b"x"
    account.client("s3").put_object(Bucket="photos", Key="secret", Body=b"s")
    assert "explicit deny" in refused(s3.get_object, Bucket="photos", Key="secret")[2]


def test_a_stranger_reads_only_what_a_bucket_policy_opens(account: Account) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{account.url}/photos/in/a")
    assert caught.value.code == 403
    policy = {
        "Version": "2012-10-17",
        "Statement": [allow("s3:GetObject", resource="arn:aws:s3:::photos/open/*", Principal="*")],
    }
    account.client("s3").put_bucket_policy(Bucket="photos", Policy=json.dumps(policy))
    account.client("s3").put_object(Bucket="photos", Key="open/a", Body=b"y")
    with urllib.request.urlopen(f"{account.url}/photos/open/a") as answer:
        assert answer.read() == b"y"
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{account.url}/photos/in/a")
    assert caught.value.code == 403
    account.client("s3").delete_bucket_policy(Bucket="photos")


def test_a_presigned_address_is_as_good_as_who_signed_it(account: Account, nobody: dict[str, str]) -> None:
    def address(**keys: str) -> str:
        made: str = account.client("s3", **keys).generate_presigned_url(
            "get_object", {"Bucket": "photos", "Key": "in/a"}
        )
        return made

    with urllib.request.urlopen(address()) as answer:
        assert answer.read() == b"x"
    for bad in (
        address(**nobody),
        address().replace("/in/a", "/secret"),
        address().replace("Expires=3600", "Expires=9999"),
    ):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(bad)
        assert caught.value.code == 403


def test_a_role_is_assumed_by_leave_and_its_session_needs_its_token(account: Account) -> None:
    role = "arn:aws:iam::123456789012:role/reader"
    trust = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "*"}}],
    }
    iam = account.client("iam")
    iam.create_role(RoleName="reader", AssumeRolePolicyDocument=json.dumps(trust))
    iam.put_role_policy(
        RoleName="reader",
        PolicyName="p",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [allow("s3:GetObject")]}),
    )
    sts = account.client("sts", **account.user("climber", allow("sts:AssumeRole", resource=role)))
    made = sts.assume_role(RoleArn=role, RoleSessionName="s1")["Credentials"]
    of_lambda = json.dumps(trust).replace('{"AWS": "*"}', '{"Service": "lambda.amazonaws.com"}')
    iam.update_assume_role_policy(RoleName="reader", PolicyDocument=of_lambda)
    assert refused(sts.assume_role, RoleArn=role, RoleSessionName="s1")[:2] == (403, "AccessDenied")
    keys = {"key": made["AccessKeyId"], "secret": made["SecretAccessKey"]}
    session = account.client("s3", **keys, token=made["SessionToken"])
    assert session.get_object(Bucket="photos", Key="in/a")["Body"].read() == b"x"
    assert "assumed-role/reader/s1" in refused(session.put_object, Bucket="photos", Key="in/z")[2]
    assert refused(account.client("s3", **keys).get_object, Bucket="photos", Key="in/a")[1] == "InvalidToken"


def test_a_token_of_the_registry_is_no_more_than_who_asked_for_it(account: Account, nobody: dict[str, str]) -> None:
    account.client("ecr").create_repository(repositoryName="mine")
    pulls = account.user("pulls", allow("ecr:GetAuthorizationToken"), allow("ecr:BatchGetImage", resource="*"))
    token = account.client("ecr", **pulls).get_authorization_token()["authorizationData"][0]["authorizationToken"]
    assert _registry(account, "GET", "/v2/mine/manifests/latest", token) == 404
    assert _registry(account, "POST", "/v2/mine/blobs/uploads/", token) == 403
    forged = base64.b64decode(token).decode().replace(pulls["key"], "local")
    assert _registry(account, "POST", "/v2/mine/blobs/uploads/", base64.b64encode(forged.encode()).decode()) in (
        401,
        403,
    )


def _registry(account: Account, method: str, path: str, token: str) -> int:
    asked = urllib.request.Request(f"{account.url}{path}", method=method, headers={"Authorization": f"Basic {token}"})
    try:
        with urllib.request.urlopen(asked) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_what_was_asked_can_be_looked_up(account: Account, nobody: dict[str, str]) -> None:
    with urllib.request.urlopen(f"{account.url}/_scar/iam") as answer:
        calls = json.load(answer)["calls"]
    assert any(call["principal"].endswith("user/nobody") and not call["allowed"] for call in calls)


def test_it_is_remembered_and_undone_only_by_asking(account: Account) -> None:
    """The last of the module: it starts the local AWS anew."""
    lifecycle.down(account.folder)
    again = lifecycle.ensure_up(account.folder)
    assert again.iam
    assert refused(Account(account.folder, again.url).client("s3", "AKIAUNKNOWN", "x").list_buckets)[0] == 403
    open_ = lifecycle.ensure_up(account.folder, iam=False)
    assert not open_.iam
    assert Account(account.folder, open_.url).client("s3", "AKIAUNKNOWN", "x").list_buckets()["Buckets"]
