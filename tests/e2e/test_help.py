"""Every example of every `--help`, typed: each does what it says, against a local AWS in which what it names is there."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scar.arguments import build
from scar.cli import main
from tests.e2e.conftest import Local
from tests.support.registries import start_registry

SCRIPT = """#!/usr/bin/env python3
import os, pathlib
print("moo", os.environ.get("AWS_BATCH_JOB_NODE_INDEX", ""), flush=True)
if found := os.environ.get("INPUT_FILE_PATH"):
    target = pathlib.Path(os.environ["TMP_OUTPUT_DIR"], pathlib.Path(found).with_suffix(".txt").name)
    target.write_bytes(pathlib.Path(found).read_bytes())
"""
COW = {
    "lambda": {
        "name": "cow",
        "timeout": 60,
        "execution_mode": "lambda-batch",
        "init_script": "cow.sh",
        "container": {"image": "scratch"},
        "input": [{"path": "my-bucket/input"}, {"path": "my-bucket/in"}],
        "output": [{"path": "my-bucket/output"}],
    },
    "function_url": {"auth": "iam"},
}
GANG = {
    "lambda": {"name": "gang", "execution_mode": "batch", "init_script": "cow.sh", "container": {"image": "scratch"}},
    "batch": {"memory": 256, "multi_node_parallel": {"enabled": True, "number_nodes": 3}, "compute_resources": {"max_v_cpus": 3}},
}  # fmt: skip
# What is made before the rest is looked at, and what undoes it: in this order. All others come in between, as help has them.
FIRST = ("scar init -f function.yaml", "scar put -b my-bucket/input -p a.png")
LAST = (
    "scar rm -f function.yaml",
    "scar init -n cow -i debian:12 -s cow.sh -ib my-bucket/in -ob my-bucket/out",
    "scar rm -n cow --delete-data my-bucket --force",
    "scar local logs",
    "scar local reset",
    "scar local down",
    "scar local up",
    "scar local status",
)
# Where the answer is not 0, and why that is right.
CODES = {
    "scar local reset": 2,  # it asks, and here is nobody to be asked
    "scar log -n cow --since 2h --follow": 130,  # goes on until it is interrupted
}
ELSEWHERE = {"scar local demo": "test_docs.test_the_tutorial_works_as_written"}
_ID = re.compile(r"1f2e3d4c-0000-4000-8000-00000000000[0-9]")


def _examples(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in dict.fromkeys(action.choices.values()):
                yield from (line.strip() for line in (inner.epilog or "").splitlines()[1:])
                yield from _examples(inner)


def _in_order() -> list[str]:
    found = list(dict.fromkeys(_examples(build())))
    assert set(FIRST + LAST) | CODES.keys() | ELSEWHERE.keys() <= set(found)
    between = [line for line in found if line not in FIRST + LAST and line not in ELSEWHERE]
    return [*FIRST, *between, *LAST]


class Typist:
    """Types a line of help. Where it names something that cannot be here (an image of a public registry, a made-up id), it types what is."""

    def __init__(self, local: Local, registry: str, capture: pytest.CaptureFixture[str]) -> None:
        self._local, self._registry, self._capture = local, registry, capture
        self.run, self.job = "", ""

    def type(self, line: str) -> int:
        text = re.sub(r"^source <\((.*)\)$", r"\1 > completion", line)
        text = text.replace("debian:12", "scratch").replace("registry.example", self._registry)
        asks_for_run = " -ri " in text or " -n cow 1f2e" in text
        text = _ID.sub(self.run if asks_for_run else self.job, text)
        text, _, target = text.partition(" > ")
        words = ["--local", *shlex.split(text)[1:]]
        if "--follow" in words:
            return self._interrupted(words)
        code = main(words)
        out = self._capture.readouterr().out
        assert out or not target, line
        return code

    def _interrupted(self, words: list[str]) -> int:
        command = [sys.executable, "-m", "scar", *words]
        with subprocess.Popen(
            command, cwd=self._local.folder, env=self._local.environ, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline()
            time.sleep(0.2)
            process.send_signal(signal.SIGINT)
            process.stdout.read()
            return process.wait(20)


@pytest.fixture
def typist(
    own_local: Local, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> Iterator[Typist]:
    folder = own_local.folder
    for name, value in own_local.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(folder)
    for name in ("cow.sh", "script.sh"):
        (folder / name).write_text(SCRIPT)
    for file, body in (("function.yaml", COW), ("gang.yaml", GANG)):
        (folder / file).write_text(json.dumps({"functions": {"aws": [body]}}))
    for name in ("a.png", "more.png", "photo.jpg", "film.mp4", "photos/b.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)
    before = signal.getsignal(signal.SIGTERM)
    (tmp_path / "registry").mkdir()
    registry = start_registry(tmp_path / "registry")
    yield Typist(own_local, registry.host, capfd)
    registry.stop()
    signal.signal(signal.SIGTERM, before)


def test_every_example_of_every_help_does_what_it_says(typist: Typist, own_local: Local) -> None:
    wrong = []
    for number, line in enumerate(_in_order()):
        if number == len(FIRST):
            typist.run = own_local.must("run", "-n", "cow", "-o", "json").json["request_id"]
            for name in ("a.png", "a.txt"):
                place = f"my-bucket/{'in' if name.endswith('png') else 'output'}"
                own_local.client("s3").put_object(
                    Bucket="my-bucket", Key=f"{place.partition('/')[2]}/{name}", Body=b"moo"
                )
            own_local.must("init", "-f", "gang.yaml")
            own_local.must("run", "-n", "gang", "--wait")
            typist.job = own_local.must("jobs", "-n", "gang", "-o", "json").json[0]["id"]
        code = typist.type(line)
        if code != CODES.get(line, 0):
            wrong.append((line, code))
    assert wrong == []
