"""Every definition file in tests/cases/fdl means, or is refused with, exactly what lies beside it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from time import perf_counter

import pytest
from jsonschema import Draft202012Validator

from scar.errors import FdlError, Problem
from scar.fdl.document import compose
from scar.fdl.load import load, parse
from scar.fdl.model import Io
from scar.fdl.places import Problems
from scar.fdl.providers import NONE
from scar.fdl.read import plain
from scar.fdl.schema import json_schema
from scar.fdl.services import Service
from scar.fdl.write import written

CASES = Path(__file__).parents[2] / "cases" / "fdl"
GOOD = sorted((CASES / "good").glob("*.yaml"))
BAD = sorted((CASES / "bad").glob("*.yaml"))
SCHEMA_REFUSES = ("type-", "unknown-key", "unknown-section", "plain-")
SCHEMA = Draft202012Validator(json_schema())


def told(case: Path, problems: Iterable[Problem]) -> list[str]:
    return [str(dataclasses.replace(problem, file=case.name)) for problem in problems]


def meaning_of(service: Service) -> dict[str, object]:
    """Without the password, of which it is told only whether there is one."""
    oscar = service.oscar
    shown = {"cluster": service.cluster, "line": service.place.line}
    for name in ("name", "endpoint", "auth_user", "ssl_verify", "memory", "cpu", "log_level", "image"):
        shown[name] = getattr(oscar, name)
    return {
        **shown,
        "password": oscar.auth_password is not None,
        "script": oscar.script and oscar.script.name,
        "environment": dict(oscar.environment),
        "input": [f"{io.provider}:{io.path}" for io in oscar.input],
        "output": [f"{io.provider}:{io.path}" for io in oscar.output],
    }


def own(items: tuple[Io, ...]) -> tuple[Io, ...]:
    return tuple(io for io in items if io.provider == "s3")


def values(case: Path) -> object:
    """What the file holds, without asking what it means."""
    root = compose(case.read_bytes().decode(), Problems.of(case.name))
    assert root is not None
    return plain(root)


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.stem)
def test_a_good_definition_means_what_lies_beside_it(case: Path) -> None:
    """CL15"""
    definition = load(case)
    meaning = {**written(definition.functions, case.parent), "warnings": told(case, definition.warnings)}
    if definition.services:
        meaning["services"] = [meaning_of(service) for service in definition.services]
    expected = json.loads(case.with_suffix(".json").read_text(encoding="utf-8"))
    assert meaning == expected, json.dumps(meaning, indent=2, ensure_ascii=False)


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.stem)
def test_a_bad_definition_is_refused_with_every_problem_at_its_place(case: Path) -> None:
    """CL14; SE9 and SE10: `yaml-*`."""
    began = perf_counter()
    with pytest.raises(FdlError) as refused:
        load(case)
    seconds = perf_counter() - began
    text = "\n".join(told(case, refused.value.problems)) + "\n"
    assert text == case.with_suffix(".txt").read_text(encoding="utf-8"), text
    assert seconds < 2


@pytest.mark.parametrize("case", [case for case in GOOD if case.stem != "oscar-services"], ids=lambda case: case.stem)
def test_a_good_definition_read_back_from_its_meaning_is_the_same(case: Path) -> None:
    # Credentials are written nowhere: what is read back has none, and is not asked where they are.
    functions = tuple(dataclasses.replace(fn, storage_providers=NONE) for fn in load(case).functions)
    functions = tuple(
        dataclasses.replace(
            fn, lambda_=dataclasses.replace(fn.lambda_, input=own(fn.lambda_.input), output=own(fn.lambda_.output))
        )
        for fn in functions
    )
    text = json.dumps(written(functions), ensure_ascii=False)
    assert parse(text, str(case), case.parent).functions == functions


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.stem)
def test_the_schema_accepts_what_the_loader_accepts(case: Path) -> None:
    assert [error.message for error in SCHEMA.iter_errors(values(case))] == []


@pytest.mark.parametrize(
    "case", [case for case in BAD if case.stem.startswith(SCHEMA_REFUSES)], ids=lambda case: case.stem
)
def test_the_schema_refuses_wrong_types_and_keys(case: Path) -> None:
    assert list(SCHEMA.iter_errors(values(case)))


def test_there_is_an_expectation_for_every_case_and_a_case_for_every_expectation() -> None:
    assert {case.stem for case in BAD} == {file.stem for file in (CASES / "bad").glob("*.txt")}
    assert {case.stem for case in GOOD} == {file.stem for file in (CASES / "good").glob("*.json")}
    assert len(BAD) >= 60
    assert len(GOOD) >= 12
