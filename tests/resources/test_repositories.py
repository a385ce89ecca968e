"""The repository of a function: made as it should be, taken away when it is ours, and everybody else's left alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from scar.errors import ConflictError
from scar.fdl.model import Ecr
from tests.support.account import ACCOUNT, REGION, Account, FakeImage, dump_account, function
from tests.support.deploying import init, plan_init, rm

NAME = "scar/grayify"


def theirs(acct: Account, name: str, **more: Any) -> dict[str, Any]:
    """A repository that somebody made by hand, with an image in it."""
    acct.aws.ecr.create_repository(repositoryName=name, **more)
    FakeImage("theirs").publish(acct.aws, name)
    found: dict[str, Any] = dump_account()["repositories"][name]
    return found


@dataclass(frozen=True)
class Prepared:
    """An image that lies in a repository of theirs."""

    repository: str
    digest: str
    size: int = 1
    has_agent: bool = True
    warnings: tuple[str, ...] = ()

    @property
    def uri_by_digest(self) -> str:
        return f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/{self.repository}@{self.digest}"


def test_a_repository_scans_what_is_pushed_keeps_tags_where_they_are_and_the_last_ten_images(acct: Account) -> None:
    init(acct.aws, function())
    made = dump_account()["repositories"][NAME]
    assert made["imageTagMutability"] == "IMMUTABLE"
    assert made["imageScanningConfiguration"] == {"scanOnPush": True}
    (rule,) = json.loads(made["lifecycle"])["rules"]
    assert rule["selection"] == {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 10}
    assert rule["action"] == {"type": "expire"}
    (statement,) = json.loads(made["policy"])["Statement"]
    assert statement["Principal"] == {"Service": "lambda.amazonaws.com"}


@pytest.mark.parametrize(
    "tags", [[], [{"Key": "scar:function", "Value": "other"}], [{"Key": "owner", "Value": "grayify"}]]
)
def test_a_repository_of_that_name_that_is_not_ours_is_told_and_never_touched(
    acct: Account, tags: list[dict[str, str]]
) -> None:
    before = theirs(acct, NAME, tags=tags)
    with pytest.raises(ConflictError, match=f"repository {NAME} exists already"):
        init(acct.aws, function())
    rm(acct.aws)
    assert dump_account()["repositories"][NAME] == before


def test_rm_takes_our_repository_with_its_images_and_no_other(acct: Account) -> None:
    before = theirs(acct, "scar/gray")
    init(acct.aws, function())
    rm(acct.aws)
    assert dump_account()["repositories"] == {"scar/gray": before}


def test_a_repository_that_was_kept_is_taken_up_again_with_its_images(acct: Account) -> None:
    fn = function(ecr=Ecr(delete_image=False))
    init(acct.aws, fn)
    rm(acct.aws)
    kept = dump_account()["repositories"][NAME]
    assert [digest for digest, _ in kept["images"]] == [FakeImage().digest]
    assert "image" not in {step.id.kind for step in plan_init(acct.aws, fn).steps}  # nothing to push
    init(acct.aws, fn)
    assert dump_account()["repositories"][NAME] == kept


def test_what_is_to_be_kept_may_change(acct: Account) -> None:
    init(acct.aws, function(ecr=Ecr(delete_image=False)))
    init(acct.aws, function())
    rm(acct.aws)
    assert dump_account()["repositories"] == {}


def test_a_prepared_image_has_no_repository_of_ours_and_outlives_the_function(acct: Account) -> None:
    before = theirs(acct, "team/tools")
    prepared = Prepared("team/tools", FakeImage("theirs").digest)
    plan = plan_init(acct.aws, function(), prepared)
    assert not {"repository", "image"} & {step.id.kind for step in plan.steps}
    init(acct.aws, function(), prepared)
    assert dump_account()["functions"]["grayify"]["image"] == prepared.uri_by_digest
    assert not plan_init(acct.aws, function(), prepared)
    rm(acct.aws)
    assert dump_account()["repositories"] == {"team/tools": before}
    assert dump_account()["functions"] == {}


def test_a_function_that_turns_to_a_prepared_image_can_turn_back_without_a_push(acct: Account) -> None:
    before = theirs(acct, "team/tools")
    init(acct.aws, function())
    init(acct.aws, function(), Prepared("team/tools", FakeImage("theirs").digest))
    assert "image" not in {step.id.kind for step in plan_init(acct.aws, function()).steps}
    rm(acct.aws)
    assert dump_account()["repositories"] == {"team/tools": before}


def test_a_policy_that_somebody_widened_is_shown_and_put_right(acct: Account) -> None:
    init(acct.aws, function())
    wanted = dump_account()["repositories"][NAME]
    policy = json.loads(wanted["policy"])
    policy["Statement"][0]["Principal"] = "*"
    acct.aws.ecr.set_repository_policy(repositoryName=NAME, policyText=json.dumps(policy))
    acct.aws.ecr.put_image_scanning_configuration(repositoryName=NAME, imageScanningConfiguration={"scanOnPush": False})
    assert (
        str(plan_init(acct.aws, function())) == f"~ repository {NAME}  policy: ~LambdaPulls, scan_on_push: False → True"
    )
    init(acct.aws, function())
    assert dump_account()["repositories"][NAME] == wanted
