"""How is a piece of text shown? What would steer a terminal made visible, bytes and counts as people say them, lines cut to a width. Pure."""

from __future__ import annotations

from typing import Final

# What `Report.paint` writes; every other control character of a text is somebody else's.
COLOURS: Final = {
    "strong": "1",
    "faint": "2",
    "failed": "31",
    "removed": "31",
    "added": "32",
    "changed": "33",
}
RESET: Final = "\x1b[0m"
_OWN: Final = tuple(f"\x1b[{code}m" for code in sorted({*COLOURS.values(), "0"}))


def printable(text: str) -> str:
    """`text` with control characters escaped, so that no object key or log line can drive the terminal.

    Newlines, tabs and our own colours stay.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else _escape(text, i) for i, c in enumerate(text))


def _escape(text: str, index: int) -> str:
    if text[index] == "\x1b" and text.startswith(_OWN, index):
        return "\x1b"
    return text[index].encode("unicode_escape").decode("ascii")


def shorten(text: str, width: int) -> str:
    """At most `width` characters; what was cut ends in `…`."""
    return text if len(text) <= width else text[: max(width - 1, 1)] + "…"


def size(count: float) -> str:
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
