"""A daemon to be killed: the engine on a state folder, in a process of its own. `python mortal.py FOLDER N` sends N events first."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lambda_bench import Local


class Journal:
    """Log lines appended to a file that outlives us."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def put(self, _: str, __: str, lines: Sequence[tuple[int, str]], **___: Any) -> None:
        with self._path.open("a") as file:
            file.write("".join(f"{text}\n" for _, text in lines))


def main(folder: Path, count: int) -> None:
    local = Local(folder, log=Journal(folder / "ran"))
    local.make("mortal", "echo ran $(cat /tmp/event); sleep 0.2; : 7272")
    if count:
        for number in range(count):
            local.lambda_.invoke(FunctionName="mortal", InvocationType="Event", Payload=json.dumps(number).encode())
            (folder / "accepted").write_text(str(number + 1))
    local.functions.start()
    while True:
        time.sleep(60)


main(Path(sys.argv[1]), int(sys.argv[2]))
