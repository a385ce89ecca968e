"""Where the bytes of an answer go: to standard output, or into a file that is there whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from scar.errors import UsageError
from scar.report import FORMATS

if TYPE_CHECKING:
    from scar.report import Report


class AnswerFile:
    """`where` is what `-o` said: the name of a format, or a file. That a file can be there is found out before anything is sent."""

    def __init__(self, report: Report, where: str) -> None:
        self._report = report
        self._path = None if where in FORMATS else Path(where).resolve()
        if self._path is not None and (self._path.is_dir() or not self._path.parent.is_dir()):
            raise UsageError(f"-o {where}: no file can be there", fix=f"Name a file, or one of {', '.join(FORMATS)}.")

    def write(self, content: bytes) -> None:
        """All of it at once."""
        if self._path is None:
            self._report.raw(content)
            return
        if self._path.exists() and not self._path.is_file():  # /dev/null, a pipe: to be written to and not replaced
            self._path.write_bytes(content)
            return
        handle, name = tempfile.mkstemp(prefix=f".{self._path.name[:100]}.", dir=self._path.parent)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            temporary.replace(self._path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        self._report.say(f"output written to {self._path.name}")
