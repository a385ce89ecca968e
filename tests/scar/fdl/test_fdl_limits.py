"""Every limit that the model states holds at its ends and is refused one beyond them, in the loader and in the schema alike."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from scar import limits
from scar.errors import FdlError
from scar.fdl.files import Found
from scar.fdl.key import Field, OneOf, Range, keys_of
from scar.fdl.load import Definition, validate
from scar.fdl.model import File, Function
from scar.fdl.reference import reference_markdown
from scar.fdl.schema import json_schema

SCHEMA = Draft202012Validator(json_schema())
PAGE = Path(__file__).parents[3] / "docs" / "reference" / "fdl.md"


def fields_below(section: type[Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Field]]:
    for field in keys_of(section):
        yield (*path, field.name), field
        inner = field.shape.item or field.shape
        if inner.section is not None:
            yield from fields_below(inner.section, (*path, field.name))


FIELDS = dict(fields_below(Function))
RANGES = {path: field for path, field in FIELDS.items() if isinstance(field.key.must, Range)}
CHOICES = {path: field for path, field in FIELDS.items() if isinstance(field.key.must, OneOf)}

NETWORK = {"SubnetIds": ["subnet-0123456789abcdef0"], "SecurityGroupIds": ["sg-0123456789abcdef0"]}
ACCESS_POINT = "arn:aws:elasticfilesystem:eu-west-1:123456789012:access-point/fsap-0123456789abcdef0"
ITEMS: dict[str, Any] = {
    "output": [{"path": "other"}],
    "node_ranges": [{"nodes": "0"}],
    "vpc": NETWORK,
    "file_system": [{"Arn": ACCESS_POINT, "LocalMountPath": "/mnt/x"}],
}


NEEDED_BY_OTHERS = {
    ("lambda", "container"),
    ("lambda", "container", "image"),
    ("lambda", "vpc", "SubnetIds"),
    ("lambda", "vpc", "SecurityGroupIds"),
}


def document(path: tuple[str, ...], value: object) -> dict[str, Any]:
    """A definition that is right but for the key at `path`, which holds `value`."""
    function: dict[str, Any] = {
        "lambda": {
            "name": "f",
            "timeout": 900,
            "container": {"image": "scratch", "timeout_threshold": 0},
            "input": [{"path": "bucket"}],
        }
    }
    if "file_system" in path:
        function["lambda"]["vpc"] = NETWORK
    node: Any = function
    for step in path[:-1]:
        node = node.setdefault(step, copy.deepcopy(ITEMS.get(step, {})))
        node = node[0] if isinstance(node, list) else node
    node[path[-1]] = value
    return {"functions": {"aws": [function]}}


def checked(raw: dict[str, Any]) -> Definition:
    return validate(raw, folder=Path("/x"), look=lambda _: Found("file", 1))


def accepted(raw: dict[str, Any]) -> bool:
    try:
        checked(raw)
    except FdlError:
        return False
    return True


def named(path: tuple[str, ...]) -> str:
    return ".".join(path)


@pytest.mark.parametrize("path", RANGES, ids=named)
def test_a_range_holds_at_its_ends_and_not_beyond(path: tuple[str, ...]) -> None:
    must = RANGES[path].key.must
    assert isinstance(must, Range)
    values = {must.least: True, must.least - 1: False}
    if must.most is not None:
        values |= {must.most: True, must.most + 1: False}
    for value, good in values.items():
        assert accepted(document(path, value)) is good, value
        assert SCHEMA.is_valid(document(path, value)) is good, value


@pytest.mark.parametrize("path", CHOICES, ids=named)
def test_every_choice_is_accepted(path: tuple[str, ...]) -> None:
    field = CHOICES[path]
    assert isinstance(field.key.must, OneOf)
    for value in field.key.must.values:
        written = [value] if field.key.single else value
        assert accepted(document(path, written)), value
        assert SCHEMA.is_valid(document(path, written)), value


@pytest.mark.parametrize("path", FIELDS, ids=named)
def test_null_means_absent(path: tuple[str, ...]) -> None:
    required = FIELDS[path].required
    raw = document(path, None)
    if required:
        assert not accepted(raw)
        assert not SCHEMA.is_valid(raw)
    elif path not in NEEDED_BY_OTHERS:
        assert accepted(raw)
        assert SCHEMA.is_valid(raw)


@pytest.mark.parametrize("path", FIELDS, ids=named)
def test_a_value_of_another_kind_is_refused_at_its_key(path: tuple[str, ...]) -> None:
    """A list of mappings of lists is not what any key wants."""
    raw = document(path, [{"x": [["x"]]}])
    with pytest.raises(FdlError) as error:
        checked(raw)
    assert any(
        named(path) in problem.path.replace("[0]", "").replace(".Variables", "") for problem in error.value.problems
    )
    assert not SCHEMA.is_valid(raw)


def test_the_environment_is_counted_in_bytes() -> None:
    own = "SCAR_STATE" + "s3://scar-state-000000000000-us-east-1/functions/f/"
    room = limits.LAMBDA_ENVIRONMENT_BYTES - len("NAME") - len(own)
    fits = "é" * (room // 2) + "x" * (room % 2)
    spills = fits + "x"
    assert accepted(document(("lambda", "environment"), {"Variables": {"NAME": fits}}))
    assert not accepted(document(("lambda", "environment"), {"Variables": {"NAME": spills}}))


@pytest.mark.parametrize(
    "image",
    [
        "scratch", "a", "ubuntu", "ubuntu:24.04", "library/ubuntu", "docker.io/library/debian:12", "localhost:5000/x", "localhost/x",
        "ghcr.io/org/team/image-name_x.y:V1.2-rc", "123456789012.dkr.ecr.eu-west-1.amazonaws.com/app@sha256:" + "0" * 64,
        "public.ecr.aws/lambda/python:3.13", "a/" * 120 + "b", "UPPER.host/lower", "name:" + "t" * 128,
    ],
)  # fmt: skip
def test_an_image_reference_of_the_grammar_is_accepted(image: str) -> None:
    assert accepted(document(("lambda", "container", "image"), image))
    assert SCHEMA.is_valid(document(("lambda", "container", "image"), image))


@pytest.mark.parametrize(
    "image",
    [
        "", " ", "Ubuntu", "-a", "a-", "a..b", "a:", "a@", "a:b:c", "a@sha256:0", "a@md5:" + "0" * 32, "a/", "/a", "a//b", "a b",
        "name:" + "t" * 129, "name:-x", "https://a/b", "a\nb", "a\n", "../a", "é", "host:99999999/a",
    ],
)  # fmt: skip
def test_an_image_reference_outside_of_the_grammar_is_refused(image: str) -> None:
    assert not accepted(document(("lambda", "container", "image"), image))


@pytest.mark.parametrize("bucket", ["abc", "a" * 63, "my.bucket-1", "1bucket", "192.168.5.4a", "a.b.c.d"])
def test_a_bucket_name_of_the_rules_is_accepted(bucket: str) -> None:
    assert accepted(document(("lambda", "output", "path"), f"{bucket}/folder"))


@pytest.mark.parametrize(
    "bucket",
    [
        "ab",
        "a" * 64,
        "Abc",
        "a_b",
        "-abc",
        "abc-",
        ".abc",
        "a..b",
        "192.168.5.4",
        "xn--abc",
        "abc-s3alias",
        "abc--ol-s3",
        "sthree-x",
        "é" * 5,
        "abc\n",
    ],
)
def test_a_bucket_name_outside_of_the_rules_is_refused(bucket: str) -> None:
    assert not accepted(document(("lambda", "output", "path"), bucket))
    assert not accepted(document(("lambda", "output", "path"), f"{bucket}/folder"))


def test_every_key_has_a_sentence() -> None:
    for path, field in fields_below(File):
        assert field.key.doc.endswith("."), path


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(json_schema())


def test_every_key_of_the_schema_is_described() -> None:
    def described(schema: dict[str, Any]) -> Iterator[str]:
        for name, value in schema.get("properties", {}).items():
            if "description" not in value and name != "Variables":
                yield name
            yield from described(value)
            yield from described(value.get("items", {}))

    assert list(described(json_schema())) == []


def test_the_reference_page_is_up_to_date() -> None:
    """If not: `python -m scar.fdl.reference > docs/reference/fdl.md`."""
    assert PAGE.read_text(encoding="utf-8") == reference_markdown()


def test_the_reference_page_names_every_key() -> None:
    page = reference_markdown()
    assert [name for path, _ in fields_below(File) if f"`{(name := path[-1])}`" not in page] == []
