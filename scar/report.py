"""What a person (or a program) sees: tables, JSON documents, progress. The only module that prints.

Data goes to standard output, everything else to standard error; with JSON nothing but one document is on standard output.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

Format = Literal["table", "json"]

# json leaves DEL and the C1 controls as they are, and a terminal obeys them.
_ESCAPED = {code: f"\\u{code:04x}" for code in (0x7F, *range(0x80, 0xA0))}


@dataclass(frozen=True, slots=True)
class Style:
    """How to speak: format of results, colour, and whether progress may redraw its line."""

    format: Format = "table"
    colour: bool = False
    redraw: bool = False
    quiet: bool = False
    width: int = 80


def style_of(format_: Format, *, quiet: bool, out: IO[str], err: IO[str], environ: Mapping[str, str]) -> Style:
    """The style that suits a terminal or a pipe. NO_COLOR and FORCE_COLOR are obeyed."""
    colour = out.isatty() and environ.get("TERM") != "dumb"
    if environ.get("NO_COLOR"):
        colour = False
    elif environ.get("FORCE_COLOR"):
        colour = True
    width = shutil.get_terminal_size((80, 24)).columns if out.isatty() else 80
    return Style(format_, colour=colour, redraw=err.isatty() and not quiet, quiet=quiet, width=width)


class Report:
    """One command's voice."""

    def __init__(self, style: Style, out: IO[str] | None = None, err: IO[str] | None = None) -> None:
        self.style = style
        self._out = out if out is not None else sys.stdout
        self._err = err if err is not None else sys.stderr
        self._lock = threading.Lock()
        self._drawn = 0

    # -- data -------------------------------------------------------------------------------------------------

    def line(self, text: str = "") -> None:
        """One line of data, control characters made visible (names of objects are other people's text)."""
        with self._lock:
            self._wipe()
            print(printable(text), file=self._out, flush=True)

    def table(
        self, rows: Sequence[Mapping[str, object]], columns: Sequence[str], *, empty: str, whole: Sequence[str] = ()
    ) -> None:
        """Rows as a table that fits the terminal; `empty` is said (on standard error) when there are none.

        The columns of `whole` are never shortened: what is in them is there to be copied.
        """
        if not rows:
            self.say(empty)
            return
        from tabulate import tabulate

        cells = [[_cell(row.get(column)) for column in columns] for row in rows]
        widths = _widths(cells, columns, self.style.width, whole)
        text = tabulate(
            [[_shorten(cell, width) for cell, width in zip(row, widths, strict=True)] for row in cells],
            headers=[column.upper() for column in columns],
            tablefmt="plain",
            disable_numparse=True,
        )
        with self._lock:
            self._wipe()
            print(text, file=self._out, flush=True)

    def document(self, value: object) -> None:
        """The one JSON document of a command."""
        print(_json(value, indent=2), file=self._out, flush=True)

    def documents(self, values: Iterable[object], *, lines: bool = False) -> int:
        """Many documents as they come, none of them kept: one list, or with `lines` one document a line. Answers how many there were."""
        count = 0
        for count, value in enumerate(values, 1):
            text = _json(value)
            print(
                text if lines else f"{'[' if count == 1 else ','}\n  {text}", end="\n" if lines else "", file=self._out
            )
            if lines:
                self._out.flush()
        if not lines:
            print("\n]" if count else "[]", file=self._out, flush=True)
        return count

    @property
    def json(self) -> bool:
        return self.style.format == "json"

    # -- remarks ----------------------------------------------------------------------------------------------

    def say(self, text: str) -> None:
        """A remark for a person."""
        if self.style.quiet:
            return
        with self._lock:
            self._wipe()
            print(printable(text), file=self._err, flush=True)

    def complain(self, text: str) -> None:
        """An error or warning: never silenced."""
        with self._lock:
            self._wipe()
            print(printable(text), file=self._err, flush=True)

    def strong(self, text: str) -> str:
        return self._paint("1", text)

    def faint(self, text: str) -> str:
        return self._paint("2", text)

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.style.colour else text

    # -- progress ---------------------------------------------------------------------------------------------

    @contextmanager
    def progress(self, what: str) -> Iterator[Progress]:
        """Progress of something that may take longer than a second: a redrawn line, or plain lines now and then."""
        progress = Progress(self, what)
        try:
            yield progress
        finally:
            progress.finish()

    def draw(self, text: str) -> None:
        """Show `text` on the line that is overwritten by whatever comes next."""
        if not self.style.redraw:
            return
        text = _shorten(printable(text), max(self.style.width - 1, 20))
        with self._lock:
            self._wipe()
            self._err.write(text)
            self._err.flush()
            self._drawn = len(text)

    def _wipe(self) -> None:
        if self._drawn:
            self._err.write("\r" + " " * self._drawn + "\r")
            self._err.flush()
            self._drawn = 0


class Progress:
    """Counts bytes (or items) from any thread. Nothing is shown in the first second; plain output gets a line every ten."""

    REDRAW_S, PLAIN_S, QUIET_FIRST_S = 0.1, 10.0, 1.0

    def __init__(self, report: Report, what: str) -> None:
        self._report, self._what = report, what
        self._start = self._shown = time.monotonic()
        self._done: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def __call__(self, done: int, total: int, what: str) -> None:
        """`done` of `total` bytes of the part called `what` are through."""
        with self._lock:
            self._done[what.partition(",")[0]] = (done, total)  # what follows a comma is detail, not another part
            now = time.monotonic()
            every = self.REDRAW_S if self._report.style.redraw else self.PLAIN_S
            if now - self._start < self.QUIET_FIRST_S or now - self._shown < every:
                return
            self._shown = now
            done_all = sum(part for part, _ in self._done.values())
            total_all = sum(whole for _, whole in self._done.values())
        text = f"{self._what}  {size(done_all)} of {size(total_all)}  {what}"
        if self._report.style.redraw:
            self._report.draw(text)
        else:
            self._report.say(text)

    def finish(self) -> None:
        self._report.draw("")


# -- text -------------------------------------------------------------------------------------------------------


def printable(text: str) -> str:
    """`text` with control characters escaped, so that no object key or log line can drive the terminal.

    Newlines, tabs and our own colours stay.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else _escape(text, i) for i, c in enumerate(text))


_OWN_COLOURS = ("\x1b[1m", "\x1b[2m", "\x1b[0m")


def _escape(text: str, index: int) -> str:
    if text[index] == "\x1b" and text.startswith(_OWN_COLOURS, index):
        return "\x1b"
    return text[index].encode("unicode_escape").decode("ascii")


def size(count: int) -> str:
    """Bytes for people: `532 B`, `1.4 KiB`, `3.0 GiB`."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def plural(count: int, noun: str) -> str:
    """`1 object`, `2 objects`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _json(value: object, indent: int | None = None) -> str:
    text = json.dumps(value, indent=indent, default=_jsonable, ensure_ascii=False)
    if not _encodable(text):  # half of a pair of surrogates, as a log line can hold it
        text = json.dumps(value, indent=indent, default=_jsonable)
    return text.translate(_ESCAPED)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _cell(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, str):
        return printable(value).replace("\n", "\\n").replace("\t", "\\t")
    if isinstance(value, Iterable):
        return ", ".join(_cell(item) for item in value) or "-"
    return str(value)


def _widths(cells: Sequence[Sequence[str]], columns: Sequence[str], width: int, whole: Sequence[str] = ()) -> list[int]:
    """Column widths that fit `width`: the widest column gives way first, down to ten characters."""
    # tabulate pads a heading by two more characters than it needs
    widths = [max(len(column) + 2, *(len(row[i]) for row in cells)) for i, column in enumerate(columns)]
    giving = [i for i, column in enumerate(columns) if column not in whole]
    while sum(widths) + 2 * (len(widths) - 1) > width and max(widths[i] for i in giving) > 10:
        widths[max(giving, key=lambda i: widths[i])] -= 1
    return widths


def _shorten(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(width - 1, 1)] + "…"


def _jsonable(value: Any) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    if isinstance(value, (Path, bytes)):
        return os.fsdecode(value)
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return str(value)
