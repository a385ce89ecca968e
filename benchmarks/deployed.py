"""Functions of the suite, and what they have said."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from surroundings import Bench

# What most of them run: a Python process (the agent's own), or a shell of an image with nothing else in it, that copies the file.
COPY_IN_PYTHON = '#!/usr/bin/env python3\nimport os, shutil\nshutil.copy(os.environ["INPUT_FILE_PATH"], os.environ["TMP_OUTPUT_DIR"])\n'
COPY = '#!/bin/sh\ncp "$INPUT_FILE_PATH" "$TMP_OUTPUT_DIR"\n'
BOUND_S = 600.0


def deploy(bench: Bench, name: str, script: str, **more: Any) -> str:
    """A function of this script; `bench-NAME/in` starts it, `bench-NAME/out` takes what it makes. Answers the bucket."""
    (bench.folder / f"{name}.script").write_text(script)
    body = {
        "name": name,
        "memory": 512,
        "timeout": 120,
        "init_script": f"{name}.script",
        "container": {"image": "scratch"},
        "input": [{"path": f"bench-{name}/in"}],
        "output": [{"path": f"bench-{name}/out"}],
        **more,
    }
    (bench.folder / f"{name}.yaml").write_text(json.dumps({"functions": {"aws": [{"lambda": body}]}}))
    bench.scar("init", "-f", f"{name}.yaml")
    return f"bench-{name}"


def shell_image(bench: Bench) -> dict[str, str]:
    """An image of busybox alone."""
    from scar.package.layer import File, Link
    from tests.support.small_images import image_of, oci_layout

    program = Path(shutil.which("busybox") or "/bin/busybox").read_bytes()
    files = [
        File("bin/busybox", program, 0o755),
        *(Link(f"bin/{name}", "busybox") for name in ("sh", "cp", "mv", "true")),
    ]
    if not (bench.folder / "shell").exists():
        oci_layout(image_of(files), bench.folder / "shell")
    return {"image": f"oci:{bench.folder / 'shell'}"}


def until(check: Callable[[], Any], pause_s: float = 0.01) -> Any:
    deadline = time.perf_counter() + BOUND_S
    while not (found := check()):
        assert time.perf_counter() < deadline, "not within the bound"
        time.sleep(pause_s)
    return found


def log(bench: Bench, name: str) -> list[dict[str, Any]]:
    """All lines of a function's log."""
    return [json.loads(line) for line in bench.scar("log", "-n", name, "-o", "json").splitlines()]


def reports(bench: Bench, name: str) -> list[str]:
    """The REPORT lines of all runs that have ended."""
    return [line["message"] for line in log(bench, name) if line["message"].startswith("REPORT")]
