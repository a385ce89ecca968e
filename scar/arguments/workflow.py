"""The words that show how functions hang together."""

from __future__ import annotations

from scar.arguments.parser import Verbs


def add(words: Verbs) -> None:
    """None yet."""
