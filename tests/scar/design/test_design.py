"""A definition becomes resources: which, under which names, and in which order."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faassupervisor import contract
from scar.aws import names, tags
from scar.aws.resources.code import ImageCode, ZipCode
from scar.aws.resources.function import LambdaFunction
from scar.aws.resources.role import Role
from scar.aws.resources.state_bucket import StateBucket
from scar.design import MODES, Site, design
from scar.errors import UsageError
from scar.fdl.model import Deployment, Iam
from scar.plan.diff import ordered
from scar.plan.resource import Id
from tests.support.account import STATE_BUCKET, FakeImage, FakeZip, function

SITE = Site("123456789012", "eu-west-1")
FUNCTION_NAMES = st.from_regex(r"[a-zA-Z0-9_-]{1,64}", fullmatch=True)


def test_everything_a_function_needs_comes_before_it() -> None:
    kinds = [resource.id.kind for resource in ordered(design(function(), SITE, FakeImage()))]
    assert sorted(kinds) == sorted(
        ["log group", "repository", "image", "role", "state bucket", "function", "bucket", "permission", "notification"]
    )
    assert kinds.index("repository") < kinds.index("image") < kinds.index("function")
    assert kinds.index("role") < kinds.index("function") < kinds.index("permission") < kinds.index("notification")
    assert kinds.index("bucket") < kinds.index("notification")


def test_the_image_is_named_by_digest() -> None:
    (made,) = [item for item in design(function(), SITE, FakeImage()) if isinstance(item, LambdaFunction)]
    assert str(made.code) == f"123456789012.dkr.ecr.eu-west-1.amazonaws.com/scar/grayify@{FakeImage().digest}"


def test_the_same_definition_gives_equal_resources() -> None:
    assert design(function(), SITE, FakeImage()) == design(function(), SITE, FakeImage())


def test_a_role_of_another_account_is_refused() -> None:
    fn = function(iam=Iam(role="arn:aws:iam::999999999999:role/theirs"))
    with pytest.raises(UsageError, match="account 999999999999"):
        design(fn, SITE, FakeImage())


def test_a_function_without_files_has_no_buckets_but_the_state() -> None:
    kinds = {item.id.kind for item in design(function(inputs=(), outputs=()), SITE, FakeImage())}
    assert kinds == {"log group", "repository", "image", "role", "state bucket", "function"}


def test_our_own_tags_win_over_the_users() -> None:
    given_tags = {"team": "a", "createdby": "me", "scar:function": "other"}
    (made,) = [
        item for item in design(function(tags=given_tags), SITE, FakeImage()) if isinstance(item, LambdaFunction)
    ]
    assert {"team": "a", "createdby": "scar", "scar:function": "grayify"}.items() <= dict(made.tags).items()


def test_every_mode_has_a_design() -> None:
    assert set(MODES) == set(contract.MODES)


def _made(kind: type[Any], resources: Iterable[Any]) -> Any:
    (found,) = [item for item in resources if isinstance(item, kind)]
    return found


def test_a_zip_function_has_objects_in_place_of_a_repository() -> None:
    resources = design(function(runtime="python3.12"), SITE, FakeZip())
    kinds = [resource.id.kind for resource in ordered(resources)]
    assert sorted(kinds) == sorted(
        ["log group", "code", "role", "state bucket", "function", "bucket", "permission", "notification"]
    )
    assert kinds.index("state bucket") < kinds.index("code") < kinds.index("function")
    made, role = _made(LambdaFunction, resources), _made(Role, resources)
    assert (made.code, made.runtime) == (ZipCode(FakeZip().sha256), "python3.12")
    assert "scar-code/123456789012/grayify/*" in role.policy
    assert _made(StateBucket, resources).code == (STATE_BUCKET,)


def test_a_zip_without_objects_may_read_none() -> None:
    resources = design(function(runtime="python3.12"), SITE, FakeZip(layers=()))
    assert "code" not in {resource.id.kind for resource in resources}
    assert "scar-code" not in _made(Role, resources).policy


def test_a_zip_of_the_bucket_is_asked_for_there() -> None:
    code = FakeZip(kept_in="mine", through_bucket=True)
    fn = function(runtime="python3.12", deployment=Deployment(bucket="mine"))
    resources = design(fn, SITE, code)
    assert _made(LambdaFunction, resources).code.place == ("mine", f"scar-code/123456789012/grayify/{code.zip_name}")
    assert Id("bucket", "mine") in {resource.id for resource in resources}


@pytest.mark.parametrize(
    ("written", "made"),
    [
        *((f"python3.{minor}", "python3.13") for minor in range(6, 12)),
        *((f"python3.{minor}", f"python3.{minor}") for minor in range(12, 15)),
    ],
)
def test_a_deprecated_runtime_is_replaced_and_no_other(written: str, made: str) -> None:
    assert _made(LambdaFunction, design(function(runtime=written), SITE, FakeZip())).runtime == made


@dataclass(frozen=True)
class Prepared:
    uri_by_digest: str = f"123456789012.dkr.ecr.eu-west-1.amazonaws.com/theirs@sha256:{'0' * 64}"
    digest: str = f"sha256:{'0' * 64}"
    size: int = 1


def test_a_prepared_image_is_named_and_nothing_is_made_for_it() -> None:
    resources = design(function(), SITE, Prepared())
    assert {resource.id.kind for resource in resources}.isdisjoint({"repository", "image", "code"})
    assert _made(LambdaFunction, resources).code == ImageCode(Prepared().uri_by_digest)


@given(FUNCTION_NAMES)
def test_names_are_ones_that_aws_takes(name: str) -> None:
    role = names.role(name, "ap-southeast-2")
    assert len(role) <= 64
    assert re.fullmatch(r"[\w+=,.@-]+", role)
    assert re.fullmatch(r"(?:[a-z0-9]+(?:[._-][a-z0-9]+)*/)*[a-z0-9]+(?:[._-][a-z0-9]+)*", names.repository(name))
    assert names.is_notification_of(name, names.notification_id(name, "in/"))
    assert names.notifying_function(names.notification_id(name, "in/")) == name


@given(st.lists(FUNCTION_NAMES, unique=True, min_size=2, max_size=2))
def test_two_functions_never_share_a_name(pair: list[str]) -> None:
    one, other = pair
    assert names.role(one, "eu-west-1").lower() != names.role(other, "eu-west-1").lower()
    assert names.repository(one) != names.repository(other)
    assert not names.is_notification_of(one, names.notification_id(other, "in/"))


@pytest.mark.parametrize(
    ("one", "other"), [("Gray", "gray"), ("a_b", "a-b"), ("a--b", "a-b"), ("_", "-"), ("A" * 64, "a" * 64)]
)
def test_names_that_differ_little_stay_apart(one: str, other: str) -> None:
    assert names.role(one, "eu-west-1").lower() != names.role(other, "eu-west-1").lower()
    assert names.repository(one) != names.repository(other)


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=40), max_size=4))
def test_a_list_packed_into_a_tag_comes_back(items: list[str]) -> None:
    value = tags.packed(items)
    assert len(value) <= 256
    assert re.fullmatch(r"[A-Za-z0-9 _.:/=+@-]*", value)
    back = tags.unpacked(value)
    kept = len(back) if back == tuple(items) else len(back) - 1
    assert back[:kept] == tuple(items[:kept])
    assert back == tuple(items) or back[-1] == f"+{len(items) - kept}"
