"""Nothing of SCAR 4.3.1 is an unknown word: its flags are parsed, its keys are read, and the page that says so is up to date."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scar.arguments import build
from scar.commands.compatibility import field_of, option, page
from scar.commands.scar4 import COMMANDS, FLAGS, KEYS, REFUSED, REPLACED, VARIABLES, Word
from scar.errors import FdlError
from scar.fdl.files import Found
from scar.fdl.load import validate

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "compatibility.md"
# What each command needs besides the flag that is tried
NEEDED = {
    "invoke": ("-n", "f"), "run": ("-n", "f"), "rm": ("-n", "f"), "log": ("-n", "f"), "put": ("-b", "b", "-p", "x"), "get": ("-b", "b"),
}  # fmt: skip
ALONE = {"-n", "--name", "-f", "--conf-file", "--all"}  # one of these is wanted, and there may be one only
PARSER = build()


def values(command: str, name: str) -> tuple[str, ...]:
    action = option(command, name)
    assert action is not None, f"scar {command} knows no {name}"
    return () if action.nargs == 0 else ("{}",) if name in {"-jd", "--json-data", "-p", "--parameters"} else ("1",)


@pytest.mark.parametrize("command", [command for command in FLAGS if command])
def test_every_flag_of_scar_4_is_taken(command: str) -> None:
    for flag in FLAGS[command]:
        for name in flag.names:
            alone = name in ALONE or (command, name) == ("rm", "-a")
            needed = () if command in {"rm", "invoke", "run", "log"} and alone else NEEDED.get(command, ())
            PARSER.parse_args([command, *needed, name, *values(command, name)])


def test_every_command_of_scar_4_is_there_but_the_one_that_it_never_had() -> None:
    assert {word.name for word in COMMANDS if word.verdict != REPLACED} == {command for command in FLAGS if command}


def nested(steps: list[str], value: object) -> object:
    for step in reversed(steps):
        value = {step: [value] if step in {"input", "output", "file_system"} else value}
    return value


def document(key: str) -> dict[str, Any]:
    """A definition in which `key` stands, with a value that is most likely wrong."""
    steps = ["x" if step in {"ID", "CLUSTER"} else step for step in key.lstrip(".").split(".")]
    if not key.startswith("."):
        return {"functions": {"aws": [nested(steps, {"!": [1]})]}}
    if steps[:2] == ["functions", "oscar"]:
        return {"functions": {"oscar": [nested(steps[2:], {"!": [1]})]}}
    found = nested(steps, {"!": [1]})
    assert isinstance(found, dict)
    return {"functions": {}, **found}


@pytest.mark.parametrize("word", KEYS, ids=lambda word: word.name)
def test_no_key_of_scar_4_is_unknown(word: Word) -> None:
    """CL15, T1-25: whatever its value is, the key itself is known, or named with what replaces it."""
    assert field_of(word.name) is not None
    last = word.name.rpartition(".")[2]
    with pytest.raises(FdlError) as refused:
        validate(document(word.name), look=lambda _: Found("file", 1), folder=Path("/x"))
    assert f"unknown key `{last}`" not in str(refused.value)


def test_an_unknown_key_is_found_by_the_same_test() -> None:
    with pytest.raises(FdlError, match="unknown key `memmory`"):
        validate(document("lambda.memmory"))
    assert field_of("lambda.memmory") is None
    assert field_of("lambda.memory.more") is None


def test_what_is_refused_says_why() -> None:
    refused = [word for word in (*KEYS, *VARIABLES) if word.verdict == REFUSED]
    assert refused
    assert all(word.how for word in refused)


def test_every_key_of_a_function_that_scar_4_had_is_in_the_table_once() -> None:
    names = [word.name for word in KEYS]
    assert len(names) == len(set(names))
    assert {"lambda.name", "iam.role", "batch.memory", "api_gateway.name"} <= set(names)
    assert isinstance(field_of("lambda.handler"), str)
    assert field_of("lambda") is not None


def test_the_page_is_up_to_date() -> None:
    """If not: `python -m scar.commands.compatibility`."""
    assert PAGE.read_text(encoding="utf-8") == page()
