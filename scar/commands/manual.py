"""The reference page of the command line, made from the parser itself: `python -m scar.commands.manual` writes it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path

from scar.arguments import build
from scar.arguments.parser import FORMATS


def reference_markdown() -> str:
    """docs/reference/cli.md. argparse's own help differs between versions of Python; this does not."""
    parser = build()
    lines = ["# Commands", "", "Generated from the program. These flags may stand before or after every command:", ""]
    lines += _flags(parser, skip=set())
    shared = set(parser._option_string_actions) - {"-o", "--output"}
    for name, verb in _verbs(parser).items():
        lines += _section(f"## scar {name}", verb, shared)
        for word, inner in _verbs(verb).items():
            lines += _section(f"### scar {name} {word}", inner, shared)
    return "\n".join(lines).rstrip() + "\n"


def _section(title: str, parser: argparse.ArgumentParser, shared: set[str]) -> Iterator[str]:
    yield from (title, "", parser.description or "", "")
    yield from _flags(parser, skip=shared)
    if parser.epilog and not _verbs(parser):
        _, _, example = parser.epilog.partition("\n")
        yield from ("```sh", *(line.strip() for line in example.splitlines()), "```", "")


def _flags(parser: argparse.ArgumentParser, *, skip: set[str]) -> list[str]:
    rows = [
        f"| {_spelling(action)} | {_meaning(action)} |"
        for action in parser._actions
        if not isinstance(action, argparse._SubParsersAction) and not _is_shared(action, skip)
    ]
    return ["| flag | meaning |", "|---|---|", *rows, ""] if rows else []


def _is_shared(action: argparse.Action, skip: set[str]) -> bool:
    if action.metavar == FORMATS:
        return bool(skip)
    return bool(action.option_strings) and set(action.option_strings) <= skip


def _spelling(action: argparse.Action) -> str:
    value = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
    names = ", ".join(f"`{name}`" for name in action.option_strings)
    return (names + value if names else str(action.metavar or action.dest)).replace("|", "\\|")


def _meaning(action: argparse.Action) -> str:
    text = (action.help or "").replace("|", "\\|")
    return f"{text} (required)" if action.required and action.option_strings else text


def _verbs(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return action.choices
    return {}


if __name__ == "__main__":
    Path("docs/reference/cli.md").write_text(reference_markdown(), encoding="utf-8")
