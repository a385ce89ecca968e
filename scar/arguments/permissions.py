"""The words about what may be done."""

from __future__ import annotations

from scar.arguments.parser import Verbs


def add(words: Verbs) -> None:
    """None yet."""
