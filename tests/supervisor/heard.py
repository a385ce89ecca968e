"""What does a process of a test say, and when?"""

from __future__ import annotations

import subprocess
import time


class Heard:
    """A process whose standard output and error are read as they come: `log` is what it has written so far."""

    process: subprocess.Popen[bytes]
    chunks: list[bytes]

    @property
    def log(self) -> str:
        return b"".join(self.chunks).decode("utf-8", "replace")

    def says(self, text: str, within_s: float = 20) -> None:
        """Wait for it: what was written before an answer, or the end, may be read after it."""
        end = time.monotonic() + within_s
        while text not in self.log:
            assert time.monotonic() < end, self.log
            time.sleep(0.005)
