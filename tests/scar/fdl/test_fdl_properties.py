"""Whatever the text or the values are, the loader answers with a definition or with problems, and soon."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from string import ascii_lowercase
from time import perf_counter
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from scar import limits
from scar.errors import FdlError
from scar.fdl.document import compose
from scar.fdl.files import Found
from scar.fdl.key import Field, Shape, keys_of
from scar.fdl.load import Definition, parse, validate
from scar.fdl.model import File, Function
from scar.fdl.model import Lambda as LambdaSection
from scar.fdl.places import Problems
from scar.fdl.read import plain
from scar.fdl.vocabulary import PROCESS_NAMES
from scar.fdl.write import written

FOLDER = Path("/definitions")
GOOD = sorted((Path(__file__).parents[2] / "cases" / "fdl" / "good").glob("*.yaml"))
PIECES = [
    "functions:", "aws:", "lambda:", "- ", "  ", "\n", "name", ": ", "f", "container: {image: scratch}", "{", "}", "[", "]", ",", "&a ", "*a",
    "<<: ", "!!str ", "!!python/object:x ", "!x ", "? ", "| \n", "> \n", "'", '"', "#", "---\n", "...\n", "\t", "\r\n", "%YAML 1.2\n", "~",
    "null", "true", "no", "1", "1.5", "0x1F", "\\", "\ufeff", "é", "\u2028", "\x85", "\0", "\x1b", "\ud800", "🖼", "input", "path: bucket/x",
]  # fmt: skip


def found(_: Path) -> Found:
    return Found("file", 1)


def answer(text: str) -> Definition | FdlError:
    """What the loader says, which must come within the time and be one of the two."""
    began = perf_counter()
    try:
        return parse(text, "f.yaml", FOLDER, look=found)
    except FdlError as error:
        assert error.problems
        assert all(line.isprintable() for line in str(error).split("\n"))  # nothing that a terminal would act on
        return error
    finally:
        assert perf_counter() - began < 2


def section_of(field: Field) -> type[Any] | None:
    return (field.shape.item or field.shape).section


def names_below(section: type[Any]) -> set[str]:
    names: set[str] = set()
    for field in keys_of(section):
        names.update(field.names)
        inner = section_of(field)
        if inner is not None:
            names |= names_below(inner)
    return names


NAMES = [*sorted(names_below(File)), "Variables"]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=30),
    st.sampled_from(["scratch", "bucket/in", "image"]),
)
NESTED: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.sampled_from(NAMES), st.text(max_size=8)), inner, max_size=5),
    ),
    max_leaves=25,
)


def mostly_shaped(shape: Shape, depth: int = 0) -> st.SearchStrategy[Any]:
    """Values that have the model's shape down to some leaf that does not."""
    if shape.section is not None and depth < 6:
        section = shape.section
        fields = {field.name: mostly_shaped(field.shape, depth + 1) for field in keys_of(section)}
        return st.one_of(st.fixed_dictionaries({}, optional=fields), NESTED)
    if shape.item is not None and shape.kind == "list":
        return st.one_of(st.lists(mostly_shaped(shape.item, depth + 1), max_size=3), SCALARS)
    return NESTED


@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=5)), max_size=60).map("".join))
@settings(max_examples=400, deadline=None)
def test_no_text_is_answered_with_anything_but_problems(text: str) -> None:
    answer(text)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_good_definition_with_pieces_cut_out_and_put_in_is_answered_with_problems_or_a_definition(
    data: st.DataObject,
) -> None:
    text = data.draw(st.sampled_from(GOOD)).read_bytes().decode()
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.integers(0, 12)))
        text = text[:start] + data.draw(st.sampled_from(PIECES)) + text[end:]
    answer(text)


@given(NESTED)
@settings(max_examples=200, deadline=None)
def test_no_values_are_answered_with_anything_but_problems(value: Any) -> None:
    try:
        validate({"functions": value} if not isinstance(value, dict) else value, folder=FOLDER, look=found)
    except FdlError as error:
        assert error.problems


@given(mostly_shaped(Shape("section", section=File)))
@settings(max_examples=150, deadline=None)
def test_nearly_right_values_are_answered_with_problems_or_a_definition(value: Any) -> None:
    try:
        validate(value if isinstance(value, dict) else {"functions": value}, folder=FOLDER, look=found)
    except FdlError as error:
        assert error.problems


WORDS = st.text(ascii_lowercase, min_size=3, max_size=12)
LINES = st.text(st.characters(codec="utf-8", exclude_characters="\x7f", exclude_categories=("Cc", "Cs")), max_size=40)
ENVIRONMENT = st.dictionaries(
    WORDS.map(str.upper).filter(lambda name: name not in PROCESS_NAMES.reserved), LINES, max_size=4
)


@st.composite
def functions(draw: st.DrawFn) -> dict[str, Any]:
    """One function that is right, with any of the keys that work; its buckets are its own, so that several go together."""
    bucket = draw(WORDS)
    timeout = draw(st.integers(*limits.LAMBDA_TIMEOUT_S))
    optional = {
        "memory": st.integers(*limits.LAMBDA_MEMORY_MIB),
        "ephemeral_storage": st.integers(*limits.LAMBDA_TMP_MIB),
        "description": LINES,
        "log_level": st.sampled_from(["debug", "Info", "WARNING"]),
        "environment": ENVIRONMENT.map(lambda variables: {"Variables": variables}),
        "init_script": WORDS,
        "c_args": st.lists(LINES, max_size=3),
        "asynchronous": st.booleans(),
        "architectures": st.sampled_from([["x86_64"], ["arm64"]]),
        "input": st.just([{"path": f"in-{bucket}/folder", "suffix": ".jpg"}]),
        "output": st.lists(
            st.fixed_dictionaries({"path": st.just(f"out-{bucket}"), "prefix": st.lists(LINES, max_size=2)}), max_size=2
        ),
        "tags": st.dictionaries(WORDS, WORDS, max_size=3),
        "region": st.sampled_from(["eu-west-1", "us-gov-east-1"]),
    }
    section = draw(st.fixed_dictionaries({}, optional=optional))
    threshold = draw(st.integers(0, timeout - 1))
    container = {"image": draw(WORDS), "timeout_threshold": threshold, "environment": {"Variables": draw(ENVIRONMENT)}}
    return {
        "lambda": {**section, "name": bucket, "timeout": timeout, "container": container},
        "ecr": {"delete_image": draw(st.booleans())},
    }


@given(st.lists(functions(), min_size=1, max_size=3, unique_by=lambda fn: fn["lambda"]["name"]))
@settings(max_examples=150, deadline=None)
def test_functions_that_are_written_out_read_back_the_same(raw: list[dict[str, Any]]) -> None:
    first = validate({"functions": {"aws": raw}}, folder=FOLDER, look=found).functions
    document = written(first)
    assert validate(document, folder=FOLDER, look=found).functions == first
    for text in (
        json.dumps(document, ensure_ascii=False),
        yaml.safe_dump(document, allow_unicode=True, default_style='"'),
    ):
        again = parse(text, "f.yaml", FOLDER, look=found).functions
        assert tuple(dataclasses.replace(function, source=None) for function in again) == first


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.stem)
def test_both_parsers_of_yaml_find_the_same_values(case: Path) -> None:
    text = case.read_bytes().decode()
    fast, slow = (compose(text, Problems.of("f.yaml"), loader) for loader in (yaml.CSafeLoader, yaml.SafeLoader))
    assert fast is not None
    assert slow is not None
    assert plain(fast) == plain(slow)


SLOW = {
    "brackets": "[" * 20_000,
    "aliases": "a: &a [x]\n" + "".join(f"b{number}: [*a, *a]\n" for number in range(10_000)),
    "block lists": "- " * 20_000,
    "one text of many lines": "a,\n" * 100_000,
    "comments": "# x\n" * 100_000,
}


@pytest.mark.parametrize("kind", SLOW)
def test_the_slow_parser_is_bounded_too(kind: str) -> None:
    began = perf_counter()
    compose(SLOW[kind], Problems.of("f.yaml"), yaml.SafeLoader)
    assert perf_counter() - began < 4


def test_defaults_are_those_of_the_model() -> None:
    (function,) = validate(
        {"functions": {"aws": [{"lambda": {"name": "f", "container": {"image": "scratch"}}}]}}
    ).functions
    model = Function(lambda_=LambdaSection(name="f"))
    assert dataclasses.replace(function.lambda_, container=model.lambda_.container) == model.lambda_
    assert function.lambda_.runtime == "image"
    assert function.ecr.delete_image is True
