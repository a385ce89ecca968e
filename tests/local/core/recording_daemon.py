"""The real daemon with a Lambda engine that only writes down what it is given: one JSON line for each call, on disk."""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scar.local.daemon import main
from scar.local.parts import Around, Parts
from scar.local.state import State


class Recorder:
    def __init__(self, path: Path) -> None:
        self._path, self._numbers = path, itertools.count()

    def install(self) -> None:
        self._write({"call": "install"})

    def start(self) -> None:
        self._write({"call": "start"})

    def stop(self) -> None:
        self._write({"call": "stop"})

    def accept(self, function_arn: str, payload: bytes, *, account: str, region: str) -> int:
        number = next(self._numbers)
        self._write({"call": "accept", "token": number, "function": function_arn, "account": account, "region": region,
                     "payload": json.loads(payload)})  # fmt: skip
        return number

    def dispatch(self, token: int) -> None:
        self._write({"call": "dispatch", "token": token})

    def status(self) -> Mapping[str, Any]:
        return {"queued": 0}

    def _write(self, row: Mapping[str, Any]) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())


def build(state: State, around: Around) -> Parts:
    return Parts(Recorder(state.folder / "recorded.jsonl"), None, dict)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], build))
