"""What does a sandbox say? Its output as lines, told live."""

from __future__ import annotations

import fcntl
import os
import select
import sys
import termios
import threading
from collections.abc import Callable
from typing import IO, Final

from scar.local.log_streams import LINE_BYTES

_READ: Final = 64 * 1024


class Lines:
    """A sandbox's output as lines, told live. Whoever needs all that was written so far calls `drain`."""

    def __init__(self, output: IO[bytes], tell: Callable[[list[str]], None]) -> None:
        self._output, self._fd, self._tell = output, output.fileno(), tell
        self._reading = threading.Lock()
        self._rest = b""
        self._ended = threading.Event()
        threading.Thread(target=self._follow, name="sandbox-output", daemon=True).start()

    def drain(self, *, to_end: bool, patience_s: float = 5.0) -> None:
        """Tell what lies in the pipe now, a last line without its end too; with `to_end`, once the tree is gone, everything."""
        if to_end:
            self._ended.wait(timeout=patience_s)
            return
        with self._reading:
            if self._ended.is_set():
                return
            waiting = _bytes_waiting(self._fd)
            while waiting > 0 and self._readable(0):
                taken = self._read_once()
                if not taken:
                    break
                waiting -= taken
            self._tell_rest()

    def _follow(self) -> None:
        while not self._ended.is_set():
            self._readable(None)
            with self._reading:
                if not self._ended.is_set() and self._readable(0) and not self._read_once():
                    self._finish()

    def _readable(self, timeout_s: float | None) -> bool:
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(None if timeout_s is None else timeout_s * 1000))

    def _read_once(self) -> int:
        data = os.read(self._fd, _READ)
        if data:
            *lines, self._rest = (self._rest + data).split(b"\n")
            if len(self._rest) > LINE_BYTES - _READ:
                lines.append(self._rest)
                self._rest = b""
            self._told(lines)
        return len(data)

    def _finish(self) -> None:
        self._tell_rest()
        self._output.close()
        self._ended.set()

    def _tell_rest(self) -> None:
        rest, self._rest = self._rest, b""
        if rest:
            self._told([rest])

    def _told(self, lines: list[bytes]) -> None:
        if lines:
            self._tell([line.rstrip(b"\r").decode(errors="replace").replace("\r", "\n") for line in lines])


def _bytes_waiting(fd: int) -> int:
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0"), sys.byteorder)
