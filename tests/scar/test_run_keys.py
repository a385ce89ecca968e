"""Keys of a definition that say how `scar run` asks, in Lambda's own words: `invocation_type` and `log_type`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from faassupervisor.contract import Reply, Run
from tests.support.runs_edge import Scar, World


@pytest.mark.parametrize(
    ("keys", "asynchronous", "shown"),
    [
        ("", False, "what it wrote"),
        ("log_type: Tail, invocation_type: RequestResponse", False, "what it wrote"),
        ("log_type: None", False, ""),
        ("invocation_type: Event", True, "00000000-0000-4000-8000-000000000001"),
        ("invocation_type: Event, asynchronous: false", False, "what it wrote"),
    ],
)
def test_a_run_is_asked_for_and_shown_as_its_definition_says(
    world: World, scar: Scar, tmp_path: Path, keys: str, asynchronous: bool, shown: str
) -> None:
    asked: list[bool] = []

    def respond(_: bytes, waits_not: bool) -> tuple[dict[str, Any], None]:
        asked.append(waits_not)
        return json.loads(Reply("r", (Run(None, 0, output="what it wrote\n"),)).to_json()), None

    world.invoked.clear()
    world.respond = respond
    world.function("keys")
    definition = tmp_path / "f.yaml"
    definition.write_text(
        f"functions: {{aws: [{{lambda: {{name: keys, {keys or 'memory: 512'}, container: {{image: scratch}}}}}}]}}"
    )
    done = scar("run", "-f", str(definition))
    assert done.code == 0
    assert asked == [asynchronous]
    assert done.out.strip() == shown
