"""A user's bucket goes only when its owner names it, when nobody else uses it, and when it is empty or that is meant, too (CL8)."""

from __future__ import annotations

import io
from argparse import Namespace
from collections.abc import Sequence

import pytest

from scar.cli import Context
from scar.commands.user_data import chosen, delete
from scar.errors import ConflictError, UsageError
from scar.report import Report, Style
from tests.support.account import Account, dump_account, function
from tests.support.deploying import init, rm


def choose(
    acct: Account, buckets: Sequence[str] | None, *, force: bool = False, names: Sequence[str] = ("grayify",)
) -> tuple[str, ...]:
    args = Namespace(delete_data=None if buckets is None else list(buckets), force=force)
    acct.wire.clear()
    try:
        return chosen(context(), args, acct.aws, names, ())
    finally:
        assert acct.wire.writes == []


def context() -> Context:
    return Context(Report(Style(), io.StringIO(), io.StringIO()), None, None, None)


def filled(acct: Account, *, versions: bool = False) -> None:
    init(acct.aws, function())
    if versions:
        acct.aws.s3.put_bucket_versioning(Bucket="photos", VersioningConfiguration={"Status": "Enabled"})
    for body in (b"1", b"2"):
        acct.aws.s3.put_object(Bucket="photos", Key="in/a.jpg", Body=body)


def test_without_the_flag_no_bucket_goes(acct: Account) -> None:
    """CL8"""
    filled(acct)
    assert choose(acct, None) == ()


def test_a_bucket_that_holds_something_is_refused_without_force(acct: Account) -> None:
    """CL8"""
    filled(acct)
    with pytest.raises(ConflictError, match="1 bucket not empty: photos"):
        choose(acct, ["photos"])
    assert choose(acct, ["photos"], force=True) == ("photos",)


def test_nobody_is_asked_where_nobody_can_be(acct: Account) -> None:
    """CL8, CL13"""
    init(acct.aws, function())
    with pytest.raises(UsageError, match="nobody can be asked"):
        choose(acct, [])


def test_a_bucket_of_another_function_and_one_of_nobody_are_refused(acct: Account) -> None:
    """CL8"""
    init(acct.aws, function())
    init(acct.aws, function("other", inputs=("films/in",), outputs=("photos/other",)))
    with pytest.raises(ConflictError, match="bucket photos is used by other, too"):
        choose(acct, ["photos"])
    with pytest.raises(UsageError, match="bucket films is neither an input nor an output of grayify"):
        choose(acct, ["films"])
    assert choose(acct, ["photos", "films"], names=("grayify", "other")) == ("films", "photos")


@pytest.mark.parametrize("versions", [False, True])
def test_the_bucket_goes_with_all_versions_of_what_is_in_it_and_the_function_after_it(
    versions: bool, acct: Account
) -> None:
    """CL8"""
    filled(acct, versions=versions)
    buckets = choose(acct, ["photos"], force=True)
    assert delete(context(), acct.aws, buckets) == [{"bucket": "photos", "objects": 2 if versions else 1}]
    assert "photos" not in dump_account()["buckets"]
    assert delete(context(), acct.aws, ["photos"]) == [{"bucket": "photos", "objects": 0}]
    rm(acct.aws)
    assert {kind for kind, found in dump_account().items() if found} == set()
