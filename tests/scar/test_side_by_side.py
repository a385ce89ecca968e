"""Twenty of scar at once, each with another definition, share a cache and nothing else (CL19)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
COUNT = 20

# Twenty interpreters would take longer to start than all that they do; a fork is a process of its own all the same.
AT_ONCE = """\
import contextlib, os, sys
from scar.cli import main

def derive(number):
    with open(f"{number}.json", "w") as out, contextlib.redirect_stdout(out):
        return main(["image", "derive", "-f", f"{number}.yaml", "-o", "json"])

if derive("alone"):
    sys.exit("alone")
children = {}
for number in range(int(sys.argv[1])):
    pid = os.fork()
    if not pid:
        os._exit(derive(number))
    children[pid] = number
failed = [children[pid] for pid, status in (os.waitpid(pid, 0) for pid in children) if status]
sys.exit(str(failed) if failed else 0)
"""


def digest(folder: Path, name: object) -> tuple[str, str]:
    (image,) = json.loads((folder / f"{name}.json").read_text())["images"]
    return image["function"], image["digest"]


def test_twenty_at_once_make_what_each_makes_alone(tmp_path: Path) -> None:
    """CL19"""
    for number in (*range(COUNT), "alone"):
        word = 7 if number == "alone" else number
        # The image that is made alone is the seventh: the same name, the same script.
        (tmp_path / f"{word}.script").write_text(f"#!/usr/bin/env python3\nprint({word})\n")
        body = {"name": f"fn{word}", "init_script": f"{word}.script", "container": {"image": "scratch"}}
        (tmp_path / f"{number}.yaml").write_text(json.dumps({"functions": {"aws": [{"lambda": body}]}}))
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    environ = {key: os.environ[key] for key in ("PATH", "HOME", "SCAR_CACHE", "XDG_CACHE_HOME") if key in os.environ}
    environ |= {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'faas-supervisor'}", "TMPDIR": str(scratch)}
    done = subprocess.run(
        [sys.executable, "-c", AT_ONCE, str(COUNT)],
        cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    made = [digest(tmp_path, number) for number in range(COUNT)]
    assert [name for name, _ in made] == [f"fn{number}" for number in range(COUNT)]
    assert len({found for _, found in made}) == COUNT
    assert digest(tmp_path, "alone") == made[7]
    assert list(scratch.iterdir()) == []
