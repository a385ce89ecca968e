"""What if the time of day is another, or jumps while a program runs? A clock on the wall for the processes that are given its variables.

libfaketime is not enough: with a true monotonic clock beside a false wall clock its version 0.9.10 refuses every sleep of Python (EINVAL),
and a monotonic clock that jumps too is what no machine has. So this is a library of our own (`wall_clock.c`), compiled when first needed.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

_SOURCE = Path(__file__).with_name("wall_clock.c")


class Wall:
    """A clock that goes `ahead_s` of the true one, until it `jumps`."""

    def __init__(self, folder: Path, ahead_s: float = 0) -> None:
        self._file = folder / "wall-clock"
        self._file.touch()
        self.jumps(ahead_s)
        self.variables = {"LD_PRELOAD": _library(), "WALL_CLOCK": str(self._file)}

    def jumps(self, ahead_s: float) -> None:
        """From now on, for every process that goes by it, it is so many seconds ahead of the true one; negative: behind."""
        with self._file.open("r+b", buffering=0) as file:
            file.write(struct.pack("<q", int(ahead_s)))  # eight bytes at once: nobody reads half of it


@functools.cache
def _library() -> str:
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler is not None, "no C compiler (.ci/install-chaos)"
    folder = Path(tempfile.mkdtemp(prefix="wall-clock-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    built = folder / "wall_clock.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(built), str(_SOURCE)], check=True)
    return str(built)
