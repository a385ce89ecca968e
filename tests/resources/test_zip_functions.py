"""Zip functions in an account: what is sent where, in which order, and what is left."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from moto.backends import get_backend

from scar.aws import names
from scar.aws.resources.code_objects import PART_BYTES, CodeObject, CodeObjects, OldCode, _parts
from scar.errors import ConflictError, ScarError
from scar.fdl.model import Deployment, Function
from tests.support.account import (
    ACCOUNT,
    REGION,
    STATE_BUCKET,
    Account,
    FakeImage,
    FakeZip,
    Kept,
    dump_account,
    function,
)
from tests.support.deploying import init, plan_init, rm

PREFIX = f"scar-code/{ACCOUNT}/grayify/"


def zipped(**more: Any) -> Function:
    return function(runtime="python3.13", **more)


def objects(bucket: str = STATE_BUCKET, prefix: str = "scar-code/") -> set[str]:
    return {key for key in dump_account()["buckets"][bucket]["objects"] if key.startswith(prefix)}


def test_a_zip_function_is_made_with_its_layers_and_without_a_repository(acct: Account) -> None:
    code = FakeZip()
    init(acct.aws, zipped(environment={"A": "1"}, layers=(_layer(acct),)), code)
    account = dump_account()
    made = account["functions"]["grayify"]["configuration"]
    assert made["PackageType"] == "Zip"
    assert (made["Runtime"], made["Handler"], made["CodeSha256"]) == ("python3.13", "scar.handler", code.sha256)
    assert made["Environment"]["Variables"] == {
        "A": "1",
        "AWS_LAMBDA_EXEC_WRAPPER": "/var/task/scar-bootstrap",
        "SCAR_STATE": f"s3://{STATE_BUCKET}/functions/grayify/",
    }
    assert [layer["Arn"] for layer in made["Layers"]] == [_layer_arn()]
    assert objects() == {PREFIX + Kept(b"layer").name}
    assert account["repositories"] == {}


def _layer(acct: Account) -> str:
    acct.aws.lambda_.publish_layer_version(LayerName="mine", Content={"ZipFile": FakeZip().content()})
    return _layer_arn()


def _layer_arn() -> str:
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:mine:1"


def test_a_second_init_only_reads(acct: Account) -> None:
    init(acct.aws, zipped(), FakeZip())
    acct.wire.clear()
    assert not plan_init(acct.aws, zipped(), FakeZip())
    assert acct.wire.writes == []
    assert len(acct.wire.calls) <= 16


def test_init_takes_few_calls(acct: Account) -> None:
    """Of a new function, in an account that has the state bucket and the function's buckets."""
    acct.aws.s3.create_bucket(Bucket="photos", CreateBucketConfiguration={"LocationConstraint": REGION})
    init(acct.aws, function("first", inputs=("photos/first",)))
    acct.wire.clear()
    init(acct.aws, zipped(), FakeZip())
    assert len(acct.wire.calls) <= 27, acct.wire.calls


def test_the_plan_says_what_is_packed_and_what_changes(acct: Account) -> None:
    old, new = FakeZip(), FakeZip("2", (b"layer", b"another"))
    lines = str(plan_init(acct.aws, zipped(), old)).splitlines()
    assert f"+ code grayify  (0.0 MB to s3://{STATE_BUCKET})" in lines
    assert "+ function grayify  (zip of 0.0 MB; image of a test)" in lines
    init(acct.aws, zipped(), old)
    lines = str(plan_init(acct.aws, zipped(), new)).splitlines()
    assert f"~ function grayify  code: zip {old.sha256[:12]} → zip {new.sha256[:12]}" in lines
    assert f"~ code grayify  objects: +{Kept(b'another').name[:12]}" in lines


def test_old_layers_go_after_the_function_was_updated_and_not_before(acct: Account) -> None:
    init(acct.aws, zipped(), FakeZip())
    acct.wire.clear()
    init(acct.aws, zipped(), FakeZip("2", (b"another",)))
    writes = [name for _, name in acct.wire.writes]
    assert writes == ["PutObject", "UpdateFunctionCode", "DeleteObjects"]
    assert objects() == {PREFIX + Kept(b"another").name}


def test_a_failed_update_leaves_what_the_old_code_needs(acct: Account) -> None:
    init(acct.aws, zipped(), FakeZip())

    def refuse(**_: Any) -> None:
        raise ScarError("no")

    acct.aws.lambda_.meta.events.register("before-call.lambda.UpdateFunctionCode", refuse)
    try:
        with pytest.raises(ScarError):
            init(acct.aws, zipped(), FakeZip("2", (b"another",)))
    finally:
        acct.aws.lambda_.meta.events.unregister("before-call.lambda.UpdateFunctionCode", refuse)
    assert PREFIX + Kept(b"layer").name in objects()
    init(acct.aws, zipped(), FakeZip("2", (b"another",)))
    assert objects() == {PREFIX + Kept(b"another").name}


def test_a_zip_too_large_for_a_request_is_taken_from_the_bucket(acct: Account) -> None:
    code = FakeZip(through_bucket=True)
    init(acct.aws, zipped(), code)
    assert dump_account()["functions"]["grayify"]["configuration"]["CodeSha256"] == code.sha256
    assert objects() == {PREFIX + Kept(b"layer").name, PREFIX + Kept(code.content()).name}
    assert not plan_init(acct.aws, zipped(), code)


def test_a_deployment_bucket_is_made_used_and_left(acct: Account) -> None:
    fn, code = zipped(deployment=Deployment(bucket="mine")), FakeZip(kept_in="mine")
    init(acct.aws, fn, code)
    assert objects("mine") == {PREFIX + Kept(b"layer").name}
    acct.aws.s3.put_object(Bucket="mine", Key="theirs")
    acct.aws.s3.put_object(Bucket="mine", Key="scar-code/999999999999/grayify/theirs")
    rm(acct.aws)
    assert objects("mine", "") == {"theirs", "scar-code/999999999999/grayify/theirs"}
    assert STATE_BUCKET not in dump_account()["buckets"]


def test_code_in_a_bucket_that_is_not_named_any_more_is_removed(acct: Account) -> None:
    init(acct.aws, zipped(deployment=Deployment(bucket="mine")), FakeZip(kept_in="mine"))
    init(acct.aws, zipped(), FakeZip("2"))
    assert objects("mine", "") == set()
    assert objects() == {PREFIX + Kept(b"layer").name}
    assert not plan_init(acct.aws, zipped(), FakeZip("2"))


def test_a_deployment_bucket_that_was_removed_by_hand_is_no_hindrance(acct: Account) -> None:
    init(acct.aws, zipped(deployment=Deployment(bucket="mine")), FakeZip(kept_in="mine"))
    for key in objects("mine", ""):
        acct.aws.s3.delete_object(Bucket="mine", Key=key)
    acct.aws.s3.delete_bucket(Bucket="mine")
    rm(acct.aws)
    assert dump_account()["functions"] == {}


def test_one_functions_code_is_not_anothers(acct: Account) -> None:
    for name in ("gray", "grayify"):
        init(acct.aws, function(name, inputs=(f"photos/{name}",), runtime="python3.13"), FakeZip())
    rm(acct.aws, "gray")
    assert objects() == {PREFIX + Kept(b"layer").name}


def test_rm_takes_everything(acct: Account) -> None:
    init(acct.aws, zipped(outputs=()), FakeZip())
    rm(acct.aws)
    account = dump_account()
    assert [account[kind] for kind in ("functions", "log groups", "roles", "repositories")] == [{}, {}, {}, {}]
    assert set(account["buckets"]) == {"photos"}


def test_a_zip_without_packed_layers_needs_no_object(acct: Account) -> None:
    init(acct.aws, zipped(), FakeZip(layers=()))
    assert objects() == set()
    init(acct.aws, zipped(), FakeZip())
    init(acct.aws, zipped(), FakeZip(layers=()))
    assert objects() == set()


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (FakeImage(), FakeZip(), "made of a container image, and Lambda never changes that to a zip"),
        (FakeZip(), FakeImage(), "made of a zip, and Lambda never changes that to a container image"),
    ],
)
def test_an_image_never_becomes_a_zip_nor_back_and_the_refusal_says_what_to_do(
    acct: Account, before: Any, after: Any, said: str
) -> None:
    def definition(code: Any) -> Function:
        return zipped() if isinstance(code, FakeZip) else function()

    init(acct.aws, definition(before), before)
    wanted = dump_account()
    with pytest.raises(ConflictError, match=said) as refused:
        plan_init(acct.aws, definition(after), after)
    assert "`scar rm -n grayify`" in (refused.value.fix or "")
    assert dump_account() == wanted
    rm(acct.aws)
    init(acct.aws, definition(after), after)
    assert not plan_init(acct.aws, definition(after), after)


def test_a_retired_runtime_is_made_with_the_one_that_replaces_it(acct: Account) -> None:
    fn = function(runtime="python3.7")
    init(acct.aws, fn, FakeZip())
    assert dump_account()["functions"]["grayify"]["configuration"]["Runtime"] == "python3.13"
    assert not plan_init(acct.aws, fn, FakeZip())


def test_another_runtime_is_an_update(acct: Account) -> None:
    init(acct.aws, zipped(), FakeZip())
    lines = str(plan_init(acct.aws, function(runtime="python3.14"), FakeZip())).splitlines()
    assert lines == ["~ function grayify  runtime: python3.13 → python3.14"]


# -- objects --------------------------------------------------------------------------------------------------------


def _large(size: int) -> CodeObject:
    """Content that is made while it is read."""
    piece = b"x" * (1 << 20)
    hashed = hashlib.sha256()
    for _ in range(size >> 20):
        hashed.update(piece)

    def chunks() -> Iterator[bytes]:
        for _ in range(size >> 20):
            yield piece

    return CodeObject(hashed.hexdigest(), size, chunks)


def _code(acct: Account, *items: CodeObject) -> CodeObjects:
    acct.aws.s3.create_bucket(Bucket="code", CreateBucketConfiguration={"LocationConstraint": REGION})
    return CodeObjects("f", "code", names.code_prefix(ACCOUNT, "f"), STATE_BUCKET, items)


def test_a_large_layer_goes_in_parts_of_which_few_are_in_memory(acct: Account) -> None:
    layer = _large(5 * PART_BYTES + (1 << 20))
    code = _code(acct, layer)
    code.create(acct.aws)
    assert acct.wire.count()["UploadPart"] == 6
    assert code.read(acct.aws) == code
    head = acct.aws.s3.head_object(Bucket="code", Key=code.keys[0])
    assert head["ContentLength"] == layer.size


def test_parts_are_cut_without_holding_the_whole() -> None:
    tracemalloc.start()
    try:
        sizes = [len(part) for part in _parts(_large(10 * PART_BYTES + (1 << 20)).open())]
        assert tracemalloc.get_traced_memory()[1] < 4 * PART_BYTES
    finally:
        tracemalloc.stop()
    assert sizes == [PART_BYTES] * 10 + [1 << 20]


def test_content_that_turns_out_to_be_other_leaves_nothing(acct: Account) -> None:
    good = _large(3 * PART_BYTES)

    def damaged() -> Iterator[bytes]:
        yield from good.open()
        raise ScarError("the digest is another")

    code = _code(acct, replace(good, open=damaged))
    with pytest.raises(ScarError, match="the digest is another"):
        code.create(acct.aws)
    assert code.read(acct.aws) is None
    assert "Uploads" not in acct.aws.s3.list_multipart_uploads(Bucket="code")


@pytest.mark.parametrize("size", [1 << 20, 2 * PART_BYTES])
def test_what_another_uploaded_meanwhile_is_taken_as_it_is(acct: Account, size: int) -> None:
    code = _code(acct, _large(size))
    code.create(acct.aws)
    code.create(acct.aws)
    assert code.read(acct.aws) == code


def test_an_object_of_another_size_is_not_ours(acct: Account) -> None:
    code = _code(acct, _large(1 << 20))
    acct.aws.s3.put_object(Bucket="code", Key=code.keys[0], Body=b"other")
    assert code.read(acct.aws) is None
    with pytest.raises(ConflictError, match="with another size"):
        code.create(acct.aws)


def test_more_than_a_thousand_old_objects_are_found_and_removed(acct: Account) -> None:
    _code(acct)
    prefix = names.code_prefix(ACCOUNT, "f")
    backend = get_backend("s3")[ACCOUNT]["aws"]  # through the API they take ten seconds
    for number in range(1001):
        backend.put_object("code", f"{prefix}{number:04}", b"")
    acct.wire.clear()
    old = OldCode("code", prefix, STATE_BUCKET, frozenset({f"{prefix}0000"})).read(acct.aws)
    assert old is not None
    assert (len(old.found), acct.wire.count()["ListObjectsV2"]) == (1000, 2)
    old.delete(acct.aws)
    assert objects("code", "") == {f"{prefix}0000"}
