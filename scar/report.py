"""What a person (or a program) sees: tables, documents, progress. The only module that prints.

Data goes to standard output, everything else to standard error; with JSON or YAML nothing but one document is on standard output.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Literal, get_args

from scar.errors import UsageError
from scar.progress import Counting, Progress
from scar.text import COLOURS, RESET, plural, printable, shorten, size

__all__ = ["FORMATS", "Format", "Progress", "Report", "Style", "plural", "printable", "size", "style_of"]

Format = Literal["table", "json", "yaml", "text"]
FORMATS: Final[tuple[Format, ...]] = get_args(Format)
When = Literal["auto", "always", "never"]
Shown = Literal["auto", "plain", "none"]

# json leaves DEL and the C1 controls as they are, and a terminal obeys them.
_ESCAPED = {code: f"\\u{code:04x}" for code in (0x7F, *range(0x80, 0xA0))}


@dataclass(frozen=True, slots=True)
class Style:
    """How to speak: format of results, colour on each stream, and whether progress may redraw its line.

    `query` is a JMESPath expression that every document goes through. `verbosity`: 1 tells every call to AWS, 2 with what was sent.
    `terminal`: standard output is one. `may_ask`: somebody sits there who can answer a question.
    """

    format: Format = "table"
    colour: bool = False
    redraw: bool = False
    quiet: bool = False
    width: int = 80
    colour_remarks: bool = False
    progress: Shown = "auto"
    query: str | None = None
    verbosity: int = 0
    terminal: bool = False
    may_ask: bool = False


def style_of(
    format_: Format,
    *,
    quiet: bool,
    out: IO[str],
    err: IO[str],
    environ: Mapping[str, str],
    colour: When = "auto",
    progress: Shown = "auto",
    query: str | None = None,
    verbosity: int = 0,
    may_ask: bool = False,
) -> Style:
    """The style that suits a terminal or a pipe. NO_COLOR and FORCE_COLOR are obeyed, and what was asked for before them."""
    terminal = out.isatty()
    width = shutil.get_terminal_size((80, 24)).columns if terminal else 80
    return Style(
        format_ if query is None or format_ in {"json", "yaml"} else "json",
        colour=_coloured(out, environ, colour),
        redraw=err.isatty() and not quiet and progress == "auto" and environ.get("TERM") != "dumb",
        quiet=quiet,
        width=width,
        colour_remarks=_coloured(err, environ, colour),
        progress=progress,
        query=query,
        verbosity=verbosity,
        terminal=terminal,
        may_ask=may_ask,
    )


def _coloured(stream: IO[str], environ: Mapping[str, str], asked: When) -> bool:
    if asked != "auto":
        return asked == "always"
    if environ.get("NO_COLOR"):
        return False
    return bool(environ.get("FORCE_COLOR")) or (stream.isatty() and environ.get("TERM") != "dumb")


class Report:
    """One command's voice."""

    def __init__(
        self, style: Style, out: IO[str] | None = None, err: IO[str] | None = None, answers: IO[str] | None = None
    ) -> None:
        self.style = style
        self._out = out if out is not None else sys.stdout
        self._err = err if err is not None else sys.stderr
        self._answers = answers if answers is not None else sys.stdin
        self._lock = threading.Lock()
        self._drawn = 0
        self.spoke = False  # whether the one document of the command was given

    # -- data -------------------------------------------------------------------------------------------------

    def line(self, text: str = "") -> None:
        """One line of data, control characters made visible (names of objects are other people's text)."""
        with self._lock:
            self._wipe()
            print(printable(text), file=self._out, flush=True)

    def table(
        self,
        rows: Sequence[Mapping[str, object]],
        columns: Sequence[str],
        *,
        empty: str,
        whole: Sequence[str] = (),
        spare: Sequence[str] = (),
    ) -> None:
        """Rows as a table that fits the terminal; `empty` is said (on standard error) when there are none.

        The columns of `whole` are never shortened: what is in them is there to be copied. Those of `spare` are left out, the first one first, where
        there is no room for them; with `-o text` and in documents nothing is.
        """
        if not rows:
            self.say(empty)
            return
        if self.style.format == "text":
            for row in rows:
                self.line("\t".join(_cell(row.get(column)) for column in columns))
            return
        from tabulate import tabulate

        shown, left = list(columns), list(spare)
        while True:
            cells = [[_cell(row.get(column)) for column in shown] for row in rows]
            widths = _widths(cells, shown, self.style.width, whole)
            natural = _widths(cells, shown, sys.maxsize)
            cut = {
                column for column, now, own in zip(shown, widths, natural, strict=True) if now < min(own, _NARROWEST)
            }
            fits = sum(widths) + 2 * (len(widths) - 1) <= self.style.width
            if not left or (fits and not cut & set(left)):
                break
            shown = [column for column in shown if column != left[0]]
            left = left[1:]
        # The headings as a row of their own: tabulate would make their columns two characters wider.
        table = [[column.upper() for column in shown], *cells]
        text = tabulate(
            [[shorten(cell, width) for cell, width in zip(row, widths, strict=True)] for row in table],
            tablefmt="plain",
            disable_numparse=True,
        )
        with self._lock:
            self._wipe()
            print(text, file=self._out, flush=True)

    def raw(self, content: bytes) -> None:
        """Bytes of somebody's file, as they are."""
        stream = getattr(self._out, "buffer", None)
        with self._lock:
            self._wipe()
            if stream is None:
                self._out.write(content.decode(errors="surrogateescape"))
            else:
                self._out.flush()
                stream.write(content)
                stream.flush()

    def document(self, value: object) -> None:
        """The one document of a command."""
        text = self._document(value)
        with self._lock:
            self._wipe()
            print(text, file=self._out, flush=True)
            self.spoke = True

    def failure(self, value: object) -> None:
        """What a command that failed gives instead: no query is made of it."""
        print(_yaml(value) if self.style.format == "yaml" else self._json(value, indent=2), file=self._out, flush=True)
        self.spoke = True

    def documents(self, values: Iterable[object], *, lines: bool = False) -> int:
        """Many documents as they come, none of them kept: one list, or with `lines` one document a line. Answers how many there were."""
        if lines:
            return self._stream(values)
        if self.style.query is not None or self.style.format == "yaml":
            kept = list(values)
            self.document(kept)
            return len(kept)
        count = 0
        for count, value in enumerate(values, 1):
            print(f"{'[' if count == 1 else ','}\n  {self._json(value)}", end="", file=self._out)
        print("\n]" if count else "[]", file=self._out, flush=True)
        self.spoke = True
        return count

    def _stream(self, values: Iterable[object]) -> int:
        """What a query finds nothing in is left out. Documents of YAML are set apart by `---`."""
        count = 0
        for value in values:
            count += 1
            found = queried(value, self.style.query)
            if found is None and self.style.query is not None:
                continue
            text = f"---\n{_yaml(found)}" if self.style.format == "yaml" else self._json(found)
            with self._lock:
                self._wipe()
                print(text, file=self._out, flush=True)
        return count

    def _document(self, value: object) -> str:
        found = queried(value, self.style.query)
        return _yaml(found) if self.style.format == "yaml" else self._json(found, indent=2)

    def _json(self, value: object, indent: int | None = None) -> str:
        """Of letters that standard output has: what is replaced inside a document makes it none."""
        encoding = str(getattr(self._out, "encoding", None) or "utf-8").lower().replace("-", "")
        return _json(value, indent, ascii_only=encoding != "utf8")

    @property
    def json(self) -> bool:
        """Whether results are documents for programs: JSON, or YAML, which says the same."""
        return self.style.format in {"json", "yaml"}

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

    def confirm(self, question: str, *, refusal: str, flag: str = "--yes") -> bool:
        """Ask a person; the answer is no unless it is yes. Raises UsageError (`refusal`, and the flag that answers) where nobody can be asked."""
        if not self.style.may_ask:
            raise UsageError(refusal, fix=f"Say {flag} to do it.")
        with self._lock:
            self._wipe()
            print(printable(f"{question} [y/N] "), end="", file=self._err, flush=True)
        return self._answers.readline().strip().lower() in {"y", "yes"}

    def strong(self, text: str) -> str:
        return self.paint(text, "strong")

    def faint(self, text: str) -> str:
        return self.paint(text, "faint")

    def paint(self, text: str, as_: str) -> str:
        """`text` in the colour of what is `added`, `changed`, `removed`, `failed`, `strong` or `faint`; the words must say the same without it."""
        return f"\x1b[{COLOURS[as_]}m{text}{RESET}" if self.style.colour else text

    def paint_remark(self, text: str, as_: str) -> str:
        """The same on standard error, which may be a terminal when standard output is not. The first word is painted."""
        if not self.style.colour_remarks:
            return text
        first, space, rest = text.partition(" ")
        return f"\x1b[{COLOURS[as_]}m{first}{RESET}{space}{rest}"

    # -- progress ---------------------------------------------------------------------------------------------

    @contextmanager
    def progress(self, what: str, total: int | None = None) -> Iterator[Progress]:
        """Progress of something that may take longer than a second: a redrawn line, or plain lines now and then."""
        progress = Progress(self, what, total)
        try:
            yield progress
        finally:
            progress.finish()

    @contextmanager
    def counting(self, what: str, total: int | None) -> Iterator[Counting]:
        """The same for things that are counted, such as runs."""
        counting = Counting(self, what, total)
        try:
            yield counting
        finally:
            counting.finish()

    @property
    def redraws(self) -> bool:
        return self.style.redraw

    def remark(self, text: str) -> None:
        """A line of progress."""
        if self.style.progress != "none":
            self.say(text)

    def draw(self, text: str) -> None:
        """Show `text` on the line that is overwritten by whatever comes next."""
        if not self.style.redraw:
            return
        text = shorten(printable(text), max(self.style.width - 1, 1))
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


# -- documents --------------------------------------------------------------------------------------------------


def queried(value: object, query: str | None) -> object:
    """What a JMESPath expression finds in a document."""
    if query is None:
        return value
    import jmespath

    try:
        return jmespath.search(query, json.loads(_json(value)))
    except jmespath.exceptions.JMESPathError as error:
        raise UsageError(f"--query {query!r}: {error}") from error


def _yaml(value: object) -> str:
    import yaml

    plain = json.loads(_json(value))
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True).removesuffix("\n").removesuffix("\n...")


def _json(value: object, indent: int | None = None, *, ascii_only: bool = False) -> str:
    text = json.dumps(value, indent=indent, default=_jsonable, ensure_ascii=ascii_only)
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


_NARROWEST: Final = 10


def _widths(cells: Sequence[Sequence[str]], columns: Sequence[str], width: int, whole: Sequence[str] = ()) -> list[int]:
    """Column widths that fit `width`: the widest column gives way first, down to eight characters."""
    widths = [max(len(column), *(len(row[i]) for row in cells)) for i, column in enumerate(columns)]
    giving = [i for i, column in enumerate(columns) if column not in whole]
    while giving and sum(widths) + 2 * (len(widths) - 1) > width and max(widths[i] for i in giving) > _NARROWEST - 2:
        widths[max(giving, key=lambda i: widths[i])] -= 1
    return widths


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
