"""The words for the person at the terminal: completion, explanations."""

from __future__ import annotations

from scar.arguments.parser import Verbs


def add(words: Verbs) -> None:
    """None yet."""
