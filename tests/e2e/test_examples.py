"""Every example does what its page shows: its commands as they are written, from its own input to what `expected/` holds.

The examples on Batch and on several nodes that take longer have tests of their own (`tests/e2e/batch/test_example.py`, `tests/e2e/mpi/test_example.py`).
"""

from __future__ import annotations

import re
import shlex
import shutil
import struct
import subprocess
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from scar.fdl.load import load
from tests.e2e.conftest import ROOT, Local, until
from tests.e2e.test_docs import blocks

EXAMPLES = ROOT / "examples"
HERE = ("audio", "video", "keywords", "digits", "etl", "workflow", "http", "fractal")
OWN_TESTS = {"demo", "short-or-long", "mpi"}
# What is published where no page's `get` leads to: objects that must be there before the first `get`.
PUBLISHED = {
    "audio": ["figures/scale.json", "pictures/scale.png"],
    "video": ["scenes/film.json", "scenes/film.png"],
    "keywords": ["found/alice.json", "found/gettysburg.json", "found/moby-dick.json"],
    "digits": ["read/form.txt"],
    "etl": ["monthly/2025.monthly.csv", "refused/2025.refused.txt"],
    "workflow": ["charts/coast.svg", "charts/mountain.svg", "notes/readme.txt"],
    "fractal": ["pictures/seahorses.png"],
}


def lines(example: str) -> list[list[str]]:
    """What the page types, word by word: all lines of its `sh` blocks but those of curl, whose address is the reader's."""
    shown = [line for block in blocks(EXAMPLES / example / "README.md", "sh") for line in block.splitlines()]
    return [shlex.split(line) for line in shown if line.strip() and not line.startswith("curl")]


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    """One local AWS, and the examples in a folder that may be written to; every example is typed, some at a time."""
    base = tmp_path_factory.mktemp("examples")
    local = Local(base / "work", base / "state")
    for example in HERE:
        shutil.copytree(
            EXAMPLES / example, local.folder / "examples" / example, ignore=shutil.ignore_patterns("expected", "*.tar")
        )
    local.must("local", "up")
    yield local
    local.scar("local", "down")


@pytest.fixture(scope="module")
def typed(copied: Local) -> dict[str, list[str]]:
    """What the commands of each example said."""
    with ThreadPoolExecutor(2) as pool:
        said = pool.map(lambda example: type_page(copied, example), HERE)
        return dict(zip(HERE, said, strict=True))


def type_page(local: Local, example: str) -> list[str]:
    said = []
    for words in lines(example):
        if words[0] == "sh":
            subprocess.run(words, cwd=local.folder, check=True, capture_output=True, timeout=60)
            continue
        assert words[0] == "scar"
        if "get" in words:
            until(f"all of {example}", lambda: set(PUBLISHED[example]) <= set(local.keys(f"scar-{example}")), 60)
        said.append(local.must(*[word for word in words[1:] if word != "--local"]).out)
    return said


@pytest.mark.parametrize("example", HERE)
def test_what_comes_out_is_what_the_page_shows(copied: Local, typed: dict[str, list[str]], example: str) -> None:
    assert typed[example]
    for expected in sorted((EXAMPLES / example / "expected").iterdir()):
        (made,) = found(copied.folder, example, expected.name)
        if expected.suffix == ".png":
            alike(made.read_bytes(), expected.read_bytes())
        else:
            assert made.read_text() == expected.read_text()
        if expected.suffix != ".png" and expected.suffix != ".svg" and example != "keywords":
            assert made.read_text().strip() in (EXAMPLES / example / "README.md").read_text()


def found(folder: Path, example: str, name: str) -> list[Path]:
    if example == "digits" and name == "form.png":  # the input, for the page
        return [EXAMPLES / example / "expected" / name]
    return [path for path in [*(folder / "results").rglob(name), folder / name] if path.is_file()]


def alike(one: bytes, other: bytes) -> None:
    """Two pictures differ by no more than another mathematical library may round differently."""
    first, second = pixels(one), pixels(other)
    assert len(first) == len(second)
    differing = sum(abs(a - b) > 1 for a, b in zip(first, second, strict=True))
    assert differing <= len(first) // 200


def pixels(png: bytes) -> bytes:
    """The rows of a PNG, each with its filter's number before it; the examples write no filters."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    place, packed = 8, b""
    while place < len(png):
        length, kind = struct.unpack_from(">I4s", png, place)
        packed += png[place + 8 : place + 8 + length] if kind == b"IDAT" else b""
        place += 12 + length
    return zlib.decompress(packed)


def test_a_job_of_batch_drew_the_fractal(typed: dict[str, list[str]]) -> None:
    jobs, log = typed["fractal"][2], typed["fractal"][-1]
    assert jobs.count("SUCCEEDED") == 1
    assert "line 80 of 80" in log


def test_the_texts_are_read_by_a_run_each(copied: Local, typed: dict[str, list[str]]) -> None:
    assert typed["keywords"]
    assert runs(copied, "keywords") == 3


def test_a_file_that_is_put_again_is_waited_for_again(copied: Local, typed: dict[str, list[str]]) -> None:
    """The run of a former upload of the same name is not taken for this one's."""
    assert typed["audio"]
    words = ("put", "-b", "scar-audio/sounds", "-p", "examples/audio/scale.wav", "--wait", "-o", "json")
    first, second = (copied.must(*words).json["runs"] for _ in range(2))
    assert len({run["request_id"] for run in first + second}) == 2


def test_the_last_two_steps_run_once_for_each_table(copied: Local, typed: dict[str, list[str]]) -> None:
    assert "coast.csv: 12 months of 2 stations" in typed["workflow"][-1]
    assert [runs(copied, name) for name in ("unpack", "summarise", "draw")] == [1, 2, 2]


def runs(local: Local, name: str) -> int:
    """How many invocations were started, by the log itself."""
    pages = local.client("logs").get_paginator("filter_log_events").paginate(logGroupName=f"/aws/lambda/{name}")
    return sum(event["message"].startswith("START RequestId:") for page in pages for event in page["events"])


def test_the_list_of_examples_names_every_one_with_its_mode() -> None:
    page = (EXAMPLES / "README.md").read_text()
    rows = {row[1]: row for row in re.findall(r"^\| (\[([a-z-]+)\].*) \|$", page, re.MULTILINE)}
    folders = {path.parent.name for path in EXAMPLES.glob("*/*.yaml")}
    assert folders == set(HERE) | OWN_TESTS == set(rows)
    assert len(folders) >= 10
    for example, (row, _) in rows.items():
        modes = {mode_of(item) for path in (EXAMPLES / example).glob("*.yaml") for item in items(path)}
        assert all(("Batch" in row) == (mode != "lambda") or "lambda" in modes for mode in modes)


def mode_of(item: dict[str, Any]) -> str:
    return str(item["lambda"].get("execution_mode", "lambda"))


def items(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load(path.read_text())["functions"]["aws"])


@pytest.mark.parametrize("example", sorted({*HERE, "demo", "short-or-long"}))
def test_the_definition_is_valid_without_a_warning(copied: Local, typed: dict[str, list[str]], example: str) -> None:
    assert typed
    folder = copied.folder / "examples" if example in HERE else EXAMPLES
    definition = load(folder / example / "function.yaml")
    assert definition.functions
    assert not definition.warnings
