"""The evaluator of policies, against what AWS documents: pure, so that it can be the simulator of other tests."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scar.design import iam
from scar.local.iam.evaluate import ANONYMOUS, Asked, PolicyError, Principal, decide, matches

ROLE = "arn:aws:iam::123456789012:role/r"
FILE = "arn:aws:s3:::photos/in/a.jpg"


def who(
    *statements: dict[str, Any], boundary: dict[str, Any] | None = None, account: str = "123456789012"
) -> Principal:
    return Principal(ROLE, account, ROLE, ({"Statement": list(statements)},), boundary)


def allow(action: Any = "s3:GetObject", resource: Any = "*", effect: str = "Allow", **more: Any) -> dict[str, Any]:
    return {"Effect": effect, "Action": action, "Resource": resource, **more}


def may(principal: Principal, action: str = "s3:GetObject", resource: str = FILE, **context: tuple[str, ...]) -> bool:
    found = {key.replace("__", ":"): value for key, value in context.items()}
    return decide(principal, Asked(action, resource, found)).allowed


STATEMENTS = st.builds(
    allow,
    st.sampled_from(["s3:*", "*", "s3:Get*", "s3:PutObject", "S3:GETOBJECT", "lambda:InvokeFunction"]),
    st.sampled_from(["*", "arn:aws:s3:::photos/*", "arn:aws:s3:::photos/in/?.jpg", "arn:aws:s3:::other/*"]),
    st.sampled_from(["Allow", "Deny"]),
)


@given(st.lists(STATEMENTS, max_size=6), st.randoms())
def test_the_order_of_statements_makes_no_difference_and_an_explicit_deny_wins(found: list[Any], random: Any) -> None:
    """SE1."""
    shuffled = [*found]
    random.shuffle(shuffled)
    assert may(who(*found)) == may(who(*shuffled))
    assert not may(who(*found, allow(effect="Deny")))


@given(st.lists(STATEMENTS, max_size=6), STATEMENTS)
def test_one_allow_more_never_takes_away_and_one_less_never_gives(found: list[Any], more: dict[str, Any]) -> None:
    if more["Effect"] == "Allow":
        assert may(who(*found, more)) >= may(who(*found))
    else:
        assert may(who(*found, more)) <= may(who(*found))
    assert not may(who())


@given(st.text(alphabet="ab*?$/{}.", max_size=12), st.text(alphabet="ab*?$/{}.", max_size=12))
def test_a_folder_written_literally_matches_itself_alone(folder: str, other: str) -> None:
    """A user's `*` is a character (design.iam)."""
    assert matches(iam._literal(folder), folder)
    assert matches(iam._literal(folder), other) == (folder == other)


@given(st.text(alphabet="ab*?", max_size=8), st.text(alphabet="ab", max_size=8))
def test_wildcards_are_as_a_regular_expression_would_have_them(pattern: str, text: str) -> None:
    expected = re.fullmatch(pattern.replace("*", ".*").replace("?", "."), text) is not None
    assert matches(pattern, text) == expected


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        ({"Effect": "Allow", "NotAction": "s3:Put*", "Resource": "*"}, True),
        ({"Effect": "Allow", "NotAction": "s3:Get*", "Resource": "*"}, False),
        ({"Effect": "Allow", "Action": "s3:*", "NotResource": "arn:aws:s3:::other/*"}, True),
        ({"Effect": "Allow", "Action": "s3:*", "NotResource": "arn:aws:s3:::photos/*"}, False),
        ({"Effect": "Allow", "Action": "s3:getobject", "Resource": ["arn:aws:s3:::x", FILE]}, True),
        ({"Effect": "Allow", "Action": "s3:GetObject", "Resource": FILE.upper()}, False),
        ({"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::photos/${aws:username}/*"}, False),
    ],
)
def test_a_statement_is_about_what_it_says(statement: dict[str, Any], allowed: bool) -> None:
    assert may(who(statement)) == allowed


@pytest.mark.parametrize(
    ("condition", "context", "allowed"),
    [
        ({"StringEquals": {"aws:username": "ann"}}, {"aws__username": ("ann",)}, True),
        ({"StringEquals": {"aws:UserName": ["bob", "ann"]}}, {"aws__username": ("ann",)}, True),
        ({"StringEquals": {"aws:username": "ann"}}, {"aws__username": ("Ann",)}, False),
        ({"StringEquals": {"aws:username": "ann"}}, {}, False),
        ({"StringEqualsIfExists": {"aws:username": "ann"}}, {}, True),
        ({"StringNotEquals": {"aws:username": "ann"}}, {}, True),
        ({"StringNotEquals": {"aws:username": ["ann", "bob"]}}, {"aws__username": ("bob",)}, False),
        ({"StringLike": {"s3:prefix": "home/*"}}, {"s3__prefix": ("home/ann",)}, True),
        ({"StringLike": {"s3:prefix": "home/*"}}, {"s3__prefix": ("homes",)}, False),
        ({"ArnLike": {"aws:SourceArn": "arn:aws:s3:::a*"}}, {"aws__sourcearn": ("arn:aws:s3:::abc",)}, True),
        ({"ArnLike": {"aws:SourceArn": "arn:*:abc"}}, {"aws__sourcearn": ("arn:aws:s3:::abc",)}, False),
        ({"ArnEquals": {"aws:SourceArn": "arn:aws:s3:::b"}}, {"aws__sourcearn": ("arn:aws:s3:::a",)}, False),
        ({"Bool": {"aws:SecureTransport": "true"}}, {"aws__securetransport": ("true",)}, True),
        ({"Bool": {"aws:SecureTransport": False}}, {"aws__securetransport": ("true",)}, False),
        ({"IpAddress": {"aws:SourceIp": "127.0.0.0/8"}}, {"aws__sourceip": ("127.0.0.1",)}, True),
        ({"NotIpAddress": {"aws:SourceIp": "127.0.0.0/8"}}, {"aws__sourceip": ("127.0.0.1",)}, False),
        ({"NumericLessThanEquals": {"s3:max-keys": "10"}}, {"s3__max-keys": ("10",)}, True),
        ({"DateGreaterThan": {"aws:CurrentTime": "2026-01-01T00:00:00Z"}}, {"aws__currenttime": ("2026-11-22T00:00:00Z",)}, True),
        ({"Null": {"aws:username": "true"}}, {}, True),
        ({"Null": {"aws:username": "true"}}, {"aws__username": ("ann",)}, False),
        ({"ForAllValues:StringEquals": {"aws:TagKeys": ["a", "b"]}}, {"aws__tagkeys": ("a", "c")}, False),
        ({"ForAnyValue:StringEquals": {"aws:TagKeys": ["a", "b"]}}, {"aws__tagkeys": ("a", "c")}, True),
        ({"StringEquals": {"a:x": "1"}, "Bool": {"a:y": "true"}}, {"a__x": ("1",), "a__y": ("false",)}, False),
    ],
)  # fmt: skip
def test_a_condition_holds_as_aws_documents_it(
    condition: Any, context: dict[str, tuple[str, ...]], allowed: bool
) -> None:
    assert may(who(allow(Condition=condition)), **context) == allowed


@pytest.mark.parametrize("operator", ["StringSimilar", "ForSomeValues:StringEquals", "Boolean"])
def test_an_unknown_operator_is_named_and_never_allows(operator: str) -> None:
    with pytest.raises(PolicyError, match=re.escape(operator)):
        may(who(allow(Condition={operator: {"aws:username": "ann"}})), aws__username=("ann",))


def test_a_boundary_bounds_and_gives_nothing() -> None:
    boundary = {"Statement": [allow("s3:Get*")]}
    assert may(who(allow("s3:*"), boundary=boundary))
    assert not may(who(allow("s3:*"), boundary=boundary), "s3:PutObject")
    assert not may(who(boundary=boundary))


def test_a_bucket_lets_strangers_in_only_by_name_and_by_leave_of_their_own_account() -> None:
    """SE19: another account's role needs leave from both sides."""
    policy = {"Statement": [allow(Principal={"AWS": "arn:aws:iam::210987654321:root"})]}
    inside = Principal("arn:aws:iam::210987654321:role/x", "210987654321", "arn:aws:iam::210987654321:role/x")
    leave = Principal(inside.arn, inside.account, inside.owner, ({"Statement": [allow()]},))
    asked = Asked("s3:GetObject", FILE)
    assert not decide(inside, asked, resource_policy=policy, owner="123456789012").allowed
    assert decide(leave, asked, resource_policy=policy, owner="123456789012").allowed
    assert not decide(leave, asked, owner="123456789012").allowed
    assert not decide(ANONYMOUS, asked, resource_policy=policy, owner="123456789012").allowed
    assert decide(ANONYMOUS, asked, resource_policy={"Statement": [allow(Principal="*")]}, owner="123456789012").allowed


def test_a_service_is_let_in_by_its_name_and_where_it_comes_from() -> None:
    """SE3: a bucket of another account with the same name is not the same."""
    condition = {
        "StringEquals": {"AWS:SourceAccount": "123456789012"},
        "ArnLike": {"AWS:SourceArn": "arn:aws:s3:::photos"},
    }
    statement = allow("lambda:InvokeFunction", Principal={"Service": "s3.amazonaws.com"}, Condition=condition)
    s3 = Principal("s3.amazonaws.com", "", None, service="s3.amazonaws.com")

    def invokes(bucket: str, account: str, service: Principal = s3) -> bool:
        context = {"aws:sourcearn": (f"arn:aws:s3:::{bucket}",), "aws:sourceaccount": (account,)}
        return decide(
            service, Asked("lambda:InvokeFunction", "f", context), resource_policy={"Statement": [statement]}
        ).allowed

    assert invokes("photos", "123456789012")
    assert not invokes("photos", "210987654321")
    assert not invokes("films", "123456789012")
    assert not invokes("photos", "123456789012", Principal("sns.amazonaws.com", "", None, service="sns.amazonaws.com"))


def test_the_root_of_an_account_is_stopped_by_a_bucket_policy_alone() -> None:
    root = Principal("arn:aws:iam::123456789012:root", "123456789012", "arn:aws:iam::123456789012:root", root=True)
    denying = {"Statement": [allow(effect="Deny", Principal="*")]}
    assert may(root)
    assert not decide(root, Asked("s3:GetObject", FILE), resource_policy=denying, owner="123456789012").allowed
