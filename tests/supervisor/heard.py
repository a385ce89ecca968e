"""What does a process of a test say, and when?"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import termios
import threading
import time
from contextlib import suppress


class Heard:
    """A process whose standard output and error `listen` reads as they come: `log` is what it has written so far."""

    process: subprocess.Popen[bytes]
    chunks: list[bytes]
    heard: threading.Lock  # held from before a read until what was read is in `chunks`

    def listen(self) -> None:
        """Until its end, in a thread of its own."""
        assert self.process.stdout is not None
        descriptor = self.process.stdout.fileno()
        while True:
            select.select([descriptor], [], [])
            with self.heard:
                chunk = os.read(descriptor, 65536)
                self.chunks.append(chunk)
                if not chunk:
                    self.process.stdout.close()
                    return

    @property
    def log(self) -> str:
        """All that was written before this was asked, whether it has been read by then or not."""
        while True:
            with self.heard:
                if not self._waiting():
                    return b"".join(self.chunks).decode("utf-8", "replace")
            time.sleep(0.001)

    def says(self, text: str, within_s: float = 20) -> None:
        """Wait for it: what the process has not written yet may come."""
        end = time.monotonic() + within_s
        while text not in self.log:
            assert time.monotonic() < end, self.log
            time.sleep(0.005)

    def _waiting(self) -> int:
        """Bytes that lie in the pipe."""
        assert self.process.stdout is not None
        with suppress(ValueError):  # closed: it has been read to its end
            (count,) = struct.unpack("i", fcntl.ioctl(self.process.stdout.fileno(), termios.FIONREAD, b"\0" * 4))
            return int(count)
        return 0
