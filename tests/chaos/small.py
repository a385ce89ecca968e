"""Functions of an image of a shell and a few programs: they start in a millisecond, so that a test can afford thousands of runs."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.e2e.conftest import Local
from tests.support.small_images import image_of, oci_layout, real_programs

PROGRAMS = ("sh", "cat", "sleep")
COPY = '#!/bin/sh\ncat "$INPUT_FILE_PATH" > "$TMP_OUTPUT_DIR/${INPUT_FILE_PATH##*/}"\n'


def small_image(folder: Path, *programs: str) -> None:
    """Write the image that `small` names."""
    if not (folder / "small").exists():
        oci_layout(image_of(real_programs(*PROGRAMS, *programs)), folder / "small")


def small(name: str, script: str, folder: Path, *, inputs: bool = True, **more: Any) -> dict[str, Any]:
    """The definition of one function, from `bucket-NAME/in` to `bucket-NAME/out`; it stands below `lambda`."""
    (folder / f"{name}.script").write_text(script)
    places = {"input": [{"path": f"bucket-{name}/in"}], "output": [{"path": f"bucket-{name}/out"}]} if inputs else {}
    return {
        "name": name,
        "memory": 128,
        "timeout": 60,
        "init_script": f"{name}.script",
        "container": {"image_file": "small"},
        **places,
        **more,
    }


def deploy(local: Local, *functions: Mapping[str, Any]) -> None:
    """`scar init` of definitions, each with what stands beside its `lambda`."""
    (local.folder / "all.yaml").write_text(json.dumps({"functions": {"aws": list(functions)}}))
    local.must("init", "-f", "all.yaml", timeout_s=300)


def status(url: str) -> Any:
    """What the local AWS says of itself: asked directly, for a process of `scar` would take longer than what is looked at."""
    with urllib.request.urlopen(f"{url}/_scar/status", timeout=60) as answer:
        return json.load(answer)


def counts(url: str) -> Mapping[str, Any]:
    """By the function's name."""
    return {arn.rpartition(":")[2]: of for arn, of in status(url)["functions"]["functions"].items()}
