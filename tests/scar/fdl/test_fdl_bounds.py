"""Hostile and enormous definitions: refused politely, soon, and without filling the memory."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from time import process_time

import pytest

from scar.errors import FdlError
from scar.fdl.files import Found
from scar.fdl.load import load, parse, validate

MIB = 1024 * 1024
HEAD = "functions:\n  aws:\n    - lambda:\n        name: f\n        container: {image: scratch}\n"


def refused(text: str) -> FdlError:
    with pytest.raises(FdlError) as error:
        parse(text, "f.yaml", Path("/nowhere"))
    return error.value


def fill(piece: str, size: int = MIB - 4096) -> str:
    return (piece * (size // len(piece) + 1))[:size]


def chain(count: int, loop: bool) -> str:
    """A file of `count` functions, each fed by the one before."""
    items = []
    for number in range(count):
        target = 0 if loop and number == count - 1 else number + 1
        items.append(
            f"    - lambda: {{name: f{number}, container: {{image: scratch}}, "
            f"input: [{{path: bucket/f{number}}}], output: [{{path: bucket/f{target}}}]}}\n"
        )
    return "functions:\n  aws:\n" + "".join(items)


def doubling(levels: int) -> str:
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{level}: &a{level} [*a{level - 1}, *a{level - 1}]" for level in range(1, levels)]
    return "\n".join(lines)


ENORMOUS: dict[str, Callable[[], str]] = {
    "brackets": lambda: "[" * 20_000,
    "closed brackets": lambda: "[" * 20_000 + "]" * 20_000,
    "braces": lambda: "{a: " * 20_000,
    "block lists": lambda: "- " * 20_000,
    "indented mappings": lambda: "\n".join(" " * depth + "a:" for depth in range(1200)),
    "doubling aliases": lambda: doubling(500),
    "a list of a million": lambda: "[" + fill("a,"),
    "a mapping of many": lambda: "".join(f"k{number}: v\n" for number in range(90_000))[: MIB - 1],
    "unknown keys": lambda: HEAD + "".join(f"        k{number}: v\n" for number in range(9_000)),
    "long unknown keys": lambda: HEAD + "".join(f"        {'memory' * 20}{number}: v\n" for number in range(5_000)),
    "one long key": lambda: f"? {fill('k')}\n: v\n",
    "one long text": lambda: f"functions: {fill('x')}\n",
    "one long name": lambda: HEAD + f"        region: {fill('a-', MIB // 2)}\n",
    "one long image": lambda: HEAD.replace("scratch", fill("a.", MIB // 2)),
    "one long path": lambda: HEAD + f"        input: [{{path: {fill('a/', MIB // 2)}}}]\n",
    "one long number": lambda: HEAD + f"        memory: {fill('9', MIB // 2)}\n",
    "one long fraction": lambda: HEAD + f"        memory: {fill('9', MIB // 2)}.x\n",
    "comments": lambda: fill("# nothing\n"),
    "blanks": lambda: fill(" "),
    "line ends": lambda: fill("\n"),
    "tabs": lambda: fill("\t"),
    "colons": lambda: fill(": "),
    "question marks": lambda: fill("? "),
    "quotes": lambda: fill('"'),
    "anchors": lambda: fill("&a "),
    "bars": lambda: fill("|\n "),
    "tags": lambda: fill("!!str "),
    "documents": lambda: fill("---\n"),
    "directives": lambda: fill("%TAG ! tag:x,2000:\n"),
    "garbage": lambda: fill("}{][,:*&!|>%@`#\"'-?~ a\n"),
    "too large": lambda: fill("# x\n", 2 * MIB),
}


@pytest.mark.parametrize("kind", ENORMOUS)
def test_an_enormous_text_is_refused_within_two_seconds_and_200_mib(kind: str) -> None:
    """SE18."""
    text = ENORMOUS[kind]()
    tracemalloc.start()
    began = process_time()
    error = refused(text)
    seconds = process_time() - began
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < 2  # of processor time, with the tracing of memory, which is slow
    assert peak < 200 * MIB
    assert 1 <= len(error.problems) <= 101
    assert all(len(str(problem)) < 2000 for problem in error.problems)


def test_the_deepest_nesting_that_is_allowed_is_refused_for_its_meaning_only() -> None:
    assert "nested" not in str(refused("[" * 64 + "]" * 64))
    assert "nested more than 64 deep" in str(refused("[" * 66 + "]" * 66))


def test_200_functions_in_a_chain_load_and_201_do_not() -> None:
    assert len(parse(chain(200, loop=False), "f.yaml", Path("/nowhere")).functions) == 200
    assert "201 items are more than the 200" in str(refused(chain(201, loop=False)))


def test_a_ring_of_200_functions_is_told_once() -> None:
    assert len(refused(chain(200, loop=True)).problems) == 1


def test_every_function_feeding_every_other_is_refused_soon() -> None:
    ios = ", ".join(f"{{path: b{number:02}}}" for number in range(20))
    text = "functions:\n  aws:\n" + "".join(
        f"    - lambda: {{name: f{number}, container: {{image: scratch}}, input: [{{path: in{number}}}, {{path: bucket}}], output: [{ios}]}}\n"
        for number in range(150)
    )
    began = process_time()
    refused(text)
    assert process_time() - began < 2


def test_past_a_hundred_problems_the_rest_is_not_looked_for() -> None:
    error = refused(HEAD + "".join(f"        k{number}: v\n" for number in range(500)))
    assert len(error.problems) == 101
    assert error.problems[-1].what == "there are more problems; the rest is not shown"


@pytest.mark.parametrize("text", ["a: \ud800", "\udcff: x", 'a: "\\ud800"', "\ufffe", "\x07"])
def test_characters_that_yaml_does_not_know_are_a_problem_not_a_crash(text: str) -> None:
    assert refused(text).problems


def test_a_file_that_is_not_there_is_told_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(FdlError, match=r"none\.yaml: cannot be read: No such file"):
        load(tmp_path / "none.yaml")


def test_a_folder_is_not_a_definition(tmp_path: Path) -> None:
    with pytest.raises(FdlError, match="cannot be read: Is a directory"):
        load(tmp_path)


def test_a_pipe_that_nobody_writes_to_is_refused_at_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.yaml"
    os.mkfifo(pipe)
    with pytest.raises(FdlError, match="is not a file"):
        load(pipe)


def test_an_endless_device_is_refused_at_once() -> None:
    with pytest.raises(FdlError, match="is not a file"):
        load(Path("/dev/zero"))


def test_a_file_of_more_than_a_mebibyte_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "large.yaml"
    file.write_bytes(b"#" * (MIB + 1))
    with pytest.raises(FdlError, match="larger than 1 MiB"):
        load(file)


def test_scripts_that_are_pipes_sockets_or_devices_are_refused_without_opening_them(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(tmp_path)  # the name of a socket has room for a hundred characters only
        try:
            listener.bind("socket")
        finally:
            os.chdir(here)
        for name in ("pipe", "socket", "/dev/zero"):
            with pytest.raises(FdlError, match="is a device, a pipe or a socket"):
                parse(f"{HEAD}        init_script: {name}\n", "f.yaml", tmp_path)


def test_a_script_is_taken_up_to_16_mib() -> None:
    text = f"{HEAD}        init_script: big.sh\n"
    most = 16 * MIB
    assert parse(text, "f.yaml", Path("/x"), look=lambda _: Found("file", most)).functions
    with pytest.raises(FdlError, match=f"has {most + 1} bytes"):
        parse(text, "f.yaml", Path("/x"), look=lambda _: Found("file", most + 1))


def test_a_script_that_may_not_be_read_is_refused() -> None:
    with pytest.raises(FdlError, match="may not be read"):
        parse(f"{HEAD}        init_script: s.sh\n", "f.yaml", Path("/x"), look=lambda _: Found("unreadable"))


def test_only_the_paths_that_a_definition_names_are_looked_at() -> None:
    seen: list[Path] = []

    def look(path: Path) -> Found:
        seen.append(path)
        return Found("file", 10)

    parse(f"{HEAD}        init_script: a/b.sh\n        run_script: /abs/run.sh\n", "f.yaml", Path("/base"), look=look)
    assert seen == [Path("/base/a/b.sh"), Path("/abs/run.sh")]


def test_values_from_the_command_line_are_checked_alike_and_have_no_line() -> None:
    raw = {"functions": {"aws": [{"lambda": {"name": "f", "memory": 1, "container": {"image": "scratch"}}}]}}
    with pytest.raises(FdlError) as error:
        validate(raw)
    assert str(error.value.problems[0]).startswith(
        "command line: functions.aws[0].lambda.memory: 1 MiB is below Lambda's 128 MiB"
    )


def test_values_that_no_file_could_hold_are_problems_too() -> None:
    endless: list[object] = []
    endless.append(endless)
    for raw in (
        {"functions": {"aws": {1: 2}}},
        {"functions": object()},
        {"functions": endless},
        {"functions": b"bytes"},
    ):
        with pytest.raises(FdlError):
            validate(raw)


def test_importing_the_model_does_not_import_yaml_nor_boto() -> None:
    code = "import sys, scar.fdl.model; sys.exit(bool({'yaml', 'boto3', 'botocore'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_three_functions_load_in_less_than_30_ms(tmp_path: Path) -> None:
    file = tmp_path / "three.yaml"
    file.write_text(chain(3, loop=False))
    load(file)
    best = min(_seconds(file) for _ in range(5))
    assert best < 0.03


def _seconds(file: Path) -> float:
    began = process_time()
    load(file)
    return process_time() - began
