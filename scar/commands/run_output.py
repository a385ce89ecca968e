"""Where what a run's process wrote goes: to standard output, or to a file that is there whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from scar.errors import UsageError
from scar.report import FORMATS

if TYPE_CHECKING:
    from scar.cli import Context


class RunOutput:
    """With JSON it is in the document already, or else a remark. `close` gives a file its name: until then it has another beside it."""

    def __init__(self, context: Context, where: str) -> None:
        self._report = context.report
        self._path = None if where in FORMATS else Path(where).resolve()
        self._said = where
        self._temporary: Path | None = None
        if self._path is None:
            return
        if self._path.is_dir() or not self._path.parent.is_dir():
            raise UsageError(f"-o {where}: no file can be there", fix=f"Name a file, or one of {', '.join(FORMATS)}.")

    def whole(self, text: str) -> None:
        """All that was written in Lambda, as it was written."""
        if self._path is not None:
            self._append(text)
        elif not self._report.json:
            self._report.line(text.removesuffix("\n"))

    def line(self, text: str) -> None:
        """One line of a log, which is not in the reply."""
        if self._path is not None:
            self._append(text + "\n")
        elif self._report.json:
            self._report.say(text)
        else:
            self._report.line(text)

    def close(self) -> None:
        """What was written so far is the file."""
        if self._path is None or self._temporary is None:
            return
        if self._temporary != self._path:
            self._temporary.replace(self._path)
        self._temporary = None
        self._report.say(f"output written to {self._said}")

    def _append(self, text: str) -> None:
        assert self._path is not None, "who calls has looked"
        if self._temporary is None and self._path.exists() and not self._path.is_file():
            self._temporary = self._path  # /dev/null, a pipe: to be written to and not replaced
        if self._temporary is None:
            handle, name = tempfile.mkstemp(prefix=f".{self._path.name[:100]}.", dir=self._path.absolute().parent)
            os.fchmod(handle, 0o666 & ~_umask())
            os.close(handle)
            self._temporary = Path(name)
        with self._temporary.open("a", encoding="utf-8", errors="surrogateescape", newline="") as file:
            file.write(text)


def _umask() -> int:
    """What a file made here does not allow; there is no asking without setting."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
