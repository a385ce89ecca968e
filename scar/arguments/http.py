"""The words about HTTP endpoints."""

from __future__ import annotations

from scar.arguments.parser import Verbs


def add(words: Verbs) -> None:
    """None yet."""
