"""`ls`: every function of ours from tags and pages, never by a call a function."""

from __future__ import annotations

from typing import Any

from botocore.stub import Stubber

from scar.aws import tags
from scar.design import Site, design
from scar.plan.listing import functions
from tests.support.account import ACCOUNT, REGION, Account, FakeImage, function
from tests.support.deploying import init, rm


def test_ls_tells_of_a_function_what_was_defined(acct: Account) -> None:
    fn = function(memory=768, timeout=60, inputs=("photos/in", "films"), outputs=("photos/o u=t+",))
    init(acct.aws, fn)
    (found,) = functions(acct.aws)
    assert (found.name, found.memory_mib, found.timeout_s) == ("grayify", 768, 60)
    assert (found.image, found.mode) == ("grycap/imagemagick", "lambda")
    assert (found.inputs, found.outputs) == (("photos/in", "films"), ("photos/o u=t+",))
    assert found.modified.year >= 2024
    rm(acct.aws)
    assert functions(acct.aws) == ()


def test_all_of_120_functions_are_listed_among_others(acct: Account) -> None:
    """CL10"""
    _make_functions(acct, ours=120, others=30)
    assert [function.name for function in functions(acct.aws)] == sorted(f"ours{n}" for n in range(120))


def test_120_functions_take_as_many_calls_as_aws_has_pages(acct: Account) -> None:
    """moto cuts pages by tags and does not page functions at all, so AWS's pages are played back."""
    ours = [f"ours{n}" for n in range(120)]
    everything = [*ours, *(f"theirs{n}" for n in range(30))]
    with Stubber(acct.aws.tagging) as tagging, Stubber(acct.aws.lambda_) as lambda_:
        for start in (0, 100):
            tagging.add_response("get_resources", _tagged_page(ours, start), _tagged_question(start))
        for start in (0, 50, 100):
            lambda_.add_response("list_functions", _functions_page(everything, start), _functions_question(start))
        found = functions(acct.aws)
        tagging.assert_no_pending_responses()
        lambda_.assert_no_pending_responses()
    assert [function.name for function in found] == sorted(ours)


def _arn(name: str) -> str:
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"


def _tagged_page(names: list[str], start: int) -> dict[str, Any]:
    more = {"PaginationToken": str(start + 100)} if start + 100 < len(names) else {"PaginationToken": ""}
    page = [
        {"ResourceARN": _arn(name), "Tags": [{"Key": tags.FUNCTION, "Value": name}]}
        for name in names[start : start + 100]
    ]
    return {"ResourceTagMappingList": page, **more}


def _tagged_question(start: int) -> dict[str, Any]:
    asked: dict[str, Any] = {
        "TagFilters": [{"Key": "scar:function"}],
        "ResourceTypeFilters": ["lambda:function"],
        "ResourcesPerPage": 100,
    }
    return {**asked, "PaginationToken": str(start)} if start else asked


def _functions_page(names: list[str], start: int) -> dict[str, Any]:
    page = [
        {
            "FunctionName": name,
            "FunctionArn": _arn(name),
            "MemorySize": 512,
            "Timeout": 300,
            "LastModified": "2026-11-21T12:00:00.000+0000",
        }
        for name in names[start : start + 50]
    ]
    more = {"NextMarker": str(start + 50)} if start + 50 < len(names) else {}
    return {"Functions": page, **more}


def _functions_question(start: int) -> dict[str, Any]:
    return {"MaxItems": 50, "Marker": str(start)} if start else {"MaxItems": 50}


def _make_functions(acct: Account, *, ours: int, others: int) -> None:
    role = acct.aws.iam.create_role(RoleName="r", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    for name in [*(f"ours{n}" for n in range(ours)), *(f"theirs{n}" for n in range(others))]:
        more = {"Tags": tags.written(tags.of_function(name, {}))} if name.startswith("ours") else {}
        acct.aws.lambda_.create_function(
            FunctionName=name, Role=role, PackageType="Image", Code={"ImageUri": "i@sha256:00"}, **more
        )


def test_an_account_without_functions_of_ours_takes_one_call(acct: Account) -> None:
    _make_functions(acct, ours=0, others=3)
    acct.wire.clear()
    assert functions(acct.aws) == ()
    assert acct.wire.count() == {"GetResources": 1}


def test_every_tag_is_one_that_all_services_take(acct: Account) -> None:
    fn = function(inputs=tuple(f"bucket-{n}/a long folder/{n}é" for n in range(20)))
    for resource in design(fn, Site.of(acct.aws), FakeImage()):
        for key, value in getattr(resource, "tags", ()):
            assert len(key) <= 128
            assert len(value) <= 256
            assert all(char.isalnum() or char in " _.:/=+-@" for char in key + value)
